"""What Colab takes of the dispatcher's plan: phases that Kaggle cannot begin now, and shards of long ones.

It is a pure function of its arguments, as the plan for Kaggle is. It never plans more hours, compute units or runtimes
than Colab has left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nbkit.tools.colab.budget import ROOM, SHORTEST, WALL
from nbkit.tools.dispatching.decision import Choice, Work, not_now


@dataclass(frozen=True)
class Room:
    """What Colab has left.

    Attributes
    ----------
    hours : float
        Of runtimes, of this week's budget.
    units : float or None
        Compute units of this week's budget; None for no limit.
    runtimes : int
        That may still be started now.
    rate : float
        Compute units an hour that a runtime used so far; 0 where it is not known.
    words : str
        Why there is no room, or what was read.
    """

    hours: float
    units: float | None = None
    runtimes: int = 1
    rate: float = 0.0
    words: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Return it as text."""
        units = "" if self.units is None else f" and {self.units:.1f} compute units"
        aside = f"; {self.words}" if self.words else ""
        return f"Colab: {self.hours:.1f} h{units} left this week{aside}"


def spread(work: Sequence[Work], choices: Sequence[Choice], room: Room, kaggle: bool = True) -> list[Choice]:
    """Return the plan for both hosts.

    Parameters
    ----------
    work : sequence of Work
        All phases.
    choices : sequence of Choice
        The plan for Kaggle alone.
    room : Room
    kaggle : bool
        False without an account at Kaggle: everything that can go on goes to Colab.

    Returns
    -------
    choices : list of Choice
        A phase may be there twice, once a host, each with its own shard.
    """
    known = {phase.slug: phase for phase in work}
    plan = []
    for choice in choices:
        phase = known[choice.slug]
        ready = not_now(phase, known) is None
        if ready and (choice.verb == "waits" or not kaggle):
            choice, room = _to_colab(phase, choice.reason if kaggle else phase.words, room)
        plan.append(choice)
    if not kaggle:
        return plan
    shared = []
    for choice in plan:
        phase = known[choice.slug]
        if choice.verb == "push" and choice.host == "kaggle" and phase.divisible and phase.sessions_left > 1:
            other, after = _to_colab(phase, f"{phase.words}; the other half is on Kaggle", room, "2/2")
            if other.verb == "push":
                room = after
                reason = f"{choice.reason}; half of the items, the other half on Colab"
                shared += [replace(choice, shard="1/2", reason=reason), other]
                continue
        shared.append(choice)
    return shared


def _to_colab(phase: Work, reason: str, room: Room, shard: str = "") -> tuple[Choice, Room]:
    """Return the choice for a phase that could run on Colab, and what is left afterwards."""

    def wait(why: str) -> tuple[Choice, Room]:
        return Choice(phase.slug, "waits", f"{reason}; Colab: {why}", phase.gpu), room

    if room.runtimes <= 0:
        return wait(room.words or "its runtimes are in use")
    whole = min(phase.session_hours + ROOM, WALL)
    hours = min(whole, room.hours)
    if room.units is not None and room.rate > 0:
        hours = min(hours, room.units / room.rate)
    hours = math.floor(100 * hours) / 100 if hours < whole else whole
    if hours < SHORTEST or (room.units is not None and room.units <= 0):
        return wait(f"for next week's budget: {room.text().removeprefix('Colab: ')}")
    units = room.rate * hours if room.rate else (room.units or 0.0)
    left = replace(
        room, hours=room.hours - hours, runtimes=room.runtimes - 1,
        units=None if room.units is None else max(0.0, room.units - units),
    )  # fmt: skip
    words = f"{reason}; Colab has {room.hours:.2f} h left"
    return Choice(
        phase.slug, "push", words, phase.gpu, hours, "colab", shard, 0.0 if room.units is None else units
    ), left
