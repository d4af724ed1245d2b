"""The dispatcher's decision: which phases to push now, and why each of the others not.

A pure function of what is known. Whatever it is told, it never plans more GPU hours than are left, more GPU sessions
than Kaggle allows, a phase that runs already or is complete, or one whose needs are not complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

GPU_SESSIONS = 2  # Kaggle's limit of batch GPU sessions side by side
SHORTEST = 1.0  # h; a GPU session below it is mostly start-up, unless the phase itself is that short
FRUITLESS = 2  # successive runs that brought nothing new before a person must look
ROOM = 0.25  # h between the length that a run is told and the wall that Kaggle is told
WALL = 12.0  # h


@dataclass(frozen=True)
class Work:
    """Say what the dispatcher knows of a phase.

    Attributes
    ----------
    slug : str
    number : int
        Place in the order.
    needs : tuple of str
        Slugs of the phases it reads from.
    gpu : bool
    session_hours : float
        Of one session.
    complete, busy : bool
        All is done; a run waits or goes on at Kaggle.
    fruitless : int
        Its newest runs that the dispatcher pushed and that brought nothing new.
    wanted : bool
        False for a phase that is looked at only because others need it.
    words : str
        Where it stands.
    """

    slug: str
    number: int
    needs: tuple[str, ...] = ()
    gpu: bool = True
    session_hours: float = 9.0
    complete: bool = False
    busy: bool = False
    fruitless: int = 0
    wanted: bool = True
    words: str = ""


@dataclass(frozen=True)
class Choice:
    """Say what happens with a phase now.

    Attributes
    ----------
    verb : str
        ``push``, ``runs``, ``done``, ``waits`` or ``held`` (a person must look).
    hours : float
        Kaggle's wall for the session that is pushed.
    """

    slug: str
    verb: str
    reason: str
    gpu: bool = False
    hours: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def decide(work: Sequence[Work], gpu_hours: float, gpu_busy: int | None = None) -> list[Choice]:
    """Decide what to push now.

    Parameters
    ----------
    work : sequence of Work
        All phases, in any order.
    gpu_hours : float
        Hours of quota that neither were used nor are bound by runs.
    gpu_busy : int or None
        GPU sessions at work; counted from `work` by default.

    Returns
    -------
    choices : list of Choice
        One for each wanted phase, in the order of their numbers; what is pushed is pushed in this order.
    """
    phases = sorted(work, key=lambda phase: (phase.number, phase.slug))
    known = {phase.slug: phase for phase in phases}
    slots = GPU_SESSIONS - (sum(p.gpu and p.busy for p in phases) if gpu_busy is None else gpu_busy)
    choices = []
    for phase in phases:
        if not phase.wanted:
            continue
        choice = _not_now(phase, known) or (_on_gpu(phase, gpu_hours, slots) if phase.gpu else _on_cpu(phase))
        if choice.verb == "push" and phase.gpu:
            gpu_hours, slots = gpu_hours - choice.hours, slots - 1
        choices.append(choice)
    return choices


def _not_now(phase: Work, known: dict[str, Work]) -> Choice | None:
    missing = [slug for slug in phase.needs if slug not in known or not known[slug].complete]
    if phase.busy:
        return Choice(phase.slug, "runs", f"a run of it is at Kaggle ({phase.words})", phase.gpu)
    if phase.complete:
        return Choice(phase.slug, "done", phase.words or "complete", phase.gpu)
    if missing:
        return Choice(phase.slug, "waits", f"for {', '.join(missing)}, which it needs", phase.gpu)
    if phase.fruitless >= FRUITLESS:
        words = (
            f"its last {phase.fruitless} runs brought nothing new; look at 'nbkit pull {phase.slug}', mend it, and "
            f"push it once by hand ('nbkit push {phase.slug}')"
        )
        return Choice(phase.slug, "held", words, phase.gpu)
    return None


def session_hours(phase: Work) -> float:
    """Give Kaggle's wall for one of its sessions, in hours."""
    return min(phase.session_hours + ROOM, WALL)


def _on_cpu(phase: Work) -> Choice:
    return Choice(phase.slug, "push", f"{phase.words}; a CPU session costs no quota", False, session_hours(phase))


def _on_gpu(phase: Work, left: float, slots: int) -> Choice:
    whole = session_hours(phase)
    hours = math.floor(100 * max(0.0, min(whole, left))) / 100 if left < whole else whole
    if slots <= 0:
        return Choice(phase.slug, "waits", f"for one of the {GPU_SESSIONS} GPU sessions at work to end", True)
    if hours < min(SHORTEST, whole):
        words = f"for the next week's quota: {max(0.0, left):.2f} h are left, a session takes {whole:.2f} h"
        return Choice(phase.slug, "waits", words, True)
    short = f", shortened from {whole:.2f} h to what is left" if hours < whole else ""
    return Choice(phase.slug, "push", f"{phase.words}; {left:.2f} h of quota are left{short}", True, hours)
