"""Decision of the dispatcher: which phases to push now, and why the others are not pushed.

It is a pure function of its arguments. It never plans more GPU hours than are left or more GPU sessions than Kaggle
allows, and never a phase that is running, is complete, or needs a phase that is not complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

GPU_SESSIONS = 2  # Kaggle's limit of simultaneous GPU sessions in batch mode
SHORTEST = 1.0  # hours; a shorter GPU session is mostly start-up, unless the phase itself is that short
FRUITLESS = 2  # successive runs without anything new, after which a person must look
ROOM = 0.25  # hours between the end of the run's own budget and Kaggle's time limit
WALL = 12.0  # hours, Kaggle's limit for any session


@dataclass(frozen=True)
class Work:
    """State of a phase as the dispatcher sees it.

    Attributes
    ----------
    slug : str
    number : int
        Position in the order.
    needs : tuple of str
        Slugs of the phases that it reads from.
    gpu : bool
        Whether it needs a GPU.
    session_hours : float
        Length of one session.
    complete : bool
        Whether all of its work is done.
    busy : bool
        Whether a run of it is queued or running on Kaggle.
    fruitless : int
        Number of its newest runs that the dispatcher pushed and that brought nothing new.
    wanted : bool
        False for a phase that is only read because others need it.
    words : str
        Its state as text.
    divisible : bool
        Whether its items can be divided between parallel sessions.
    sessions_left : int
        Sessions that the rest takes at its rate; 0 where that is not known.
    where : str
        The host of its run, as text.
    open_now : str
        Which sessions have its training open, by the records in the store, as text; empty for none.
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
    divisible: bool = False
    sessions_left: int = 0
    where: str = "Kaggle"
    open_now: str = ""


@dataclass(frozen=True)
class Choice:
    """Decision for one phase.

    Attributes
    ----------
    verb : str
        ``push``, ``runs``, ``done``, ``waits`` or ``held`` (not pushed until a person pushes it by hand).
    reason : str
        Why, as text.
    gpu : bool
        Whether the phase needs a GPU.
    hours : float
        The host's time limit for the session that is pushed.
    host : str
        ``kaggle`` or ``colab``.
    shard : str
        Part of the phase's items, such as ``1/2``; empty for all.
    units : float
        Compute units that it may use; 0 for no limit, and on Kaggle.
    """

    slug: str
    verb: str
    reason: str
    gpu: bool = False
    hours: float = 0.0
    host: str = "kaggle"
    shard: str = ""
    units: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return asdict(self)


def decide(work: Sequence[Work], gpu_hours: float, gpu_busy: int | None = None) -> list[Choice]:
    """Decide what to push now.

    Parameters
    ----------
    work : sequence of Work
        All phases, in any order.
    gpu_hours : float
        Hours of quota that are neither used nor reserved by runs.
    gpu_busy : int or None
        Number of running GPU sessions; counted from `work` by default.

    Returns
    -------
    choices : list of Choice
        One for each wanted phase in the order of their numbers, which is also the order of the pushes.
    """
    phases = sorted(work, key=lambda phase: (phase.number, phase.slug))
    known = {phase.slug: phase for phase in phases}
    slots = GPU_SESSIONS - (sum(p.gpu and p.busy for p in phases) if gpu_busy is None else gpu_busy)
    choices = []
    for phase in phases:
        if not phase.wanted:
            continue
        choice = not_now(phase, known) or (_on_gpu(phase, gpu_hours, slots) if phase.gpu else _on_cpu(phase))
        if choice.verb == "push" and phase.gpu:
            gpu_hours, slots = gpu_hours - choice.hours, slots - 1
        choices.append(choice)
    return choices


def not_now(phase: Work, known: dict[str, Work]) -> Choice | None:
    """Return why a phase cannot go on, whatever room a host has; None where it can."""
    missing = [slug for slug in phase.needs if slug not in known or not known[slug].complete]
    if phase.busy:
        return Choice(phase.slug, "runs", f"a run is at {phase.where} ({phase.words})", phase.gpu)
    if phase.complete:
        return Choice(phase.slug, "done", phase.words or "complete", phase.gpu)
    if missing:
        return Choice(phase.slug, "waits", f"for {', '.join(missing)}, which it needs", phase.gpu)
    if phase.open_now:
        words = f"for the end of a session that trains it already ({phase.open_now}): two would do the same steps"
        return Choice(phase.slug, "waits", words, phase.gpu)
    if phase.fruitless >= FRUITLESS:
        words = (
            f"its last {phase.fruitless} runs brought nothing new; read the log ('nbkit pull {phase.slug}'), correct "
            f"the cause, and push it once by hand ('nbkit push {phase.slug}')"
        )
        return Choice(phase.slug, "held", words, phase.gpu)
    return None


def session_hours(phase: Work) -> float:
    """Return Kaggle's time limit for one session of a phase, in hours."""
    return min(phase.session_hours + ROOM, WALL)


def _on_cpu(phase: Work) -> Choice:
    return Choice(phase.slug, "push", f"{phase.words}; a CPU session costs no quota", False, session_hours(phase))


def _on_gpu(phase: Work, left: float, slots: int) -> Choice:
    whole = session_hours(phase)
    hours = math.floor(100 * max(0.0, min(whole, left))) / 100 if left < whole else whole
    if slots <= 0:
        return Choice(phase.slug, "waits", f"for the end of one of the {GPU_SESSIONS} running GPU sessions", True)
    if hours < min(SHORTEST, whole):
        words = f"for next week's quota: {max(0.0, left):.2f} h are left, and a session takes {whole:.2f} h"
        return Choice(phase.slug, "waits", words, True)
    short = f", shortened from {whole:.2f} h to what is left" if hours < whole else ""
    return Choice(phase.slug, "push", f"{phase.words}; {left:.2f} h of quota are left{short}", True, hours)
