"""Longer sessions for a rehearsal whose start-up leaves no time for work.

Start-up is measured up to the first item or step, not up to the opening: imports, data and the first batch come after
the opening, and on a busy machine they can fill a session of 15 s without a single step.
"""

from __future__ import annotations

import math

from nbkit.runtime.words import show_duration
from nbkit.tools.rehearsal.accounts import RehearsedSession

PATIENCE = 3  # successive sessions without progress
LONGEST = 600.0  # seconds; a longer start-up is for the user to decide on, not to wait for
_UNMEASURED = 4  # longest session, as a multiple of the requested length, while no start-up was measured
_SHARE = 0.4  # share of a session that start-up and the cells after the work may take
_ROUNDING = ((10, 1), (60, 5), (600, 30), (math.inf, 60))  # (below so many seconds, round up to this multiple)


def overhead(session: RehearsedSession) -> float:
    """Return the seconds of a session before its first item or step and after its last one.

    If no work began, return the session's length: start-up took at least that long.
    """
    if session.to_work is None:
        return session.length
    return session.to_work + (session.ending_s or 0.0)


def lengthened(
    sessions: list[RehearsedSession], asked: float, length: float, longest: float, fruitless: int
) -> tuple[float, str] | None:
    """Return a longer session length and the reason, or None if the present length is kept.

    Parameters
    ----------
    sessions : list of RehearsedSession
        The sessions so far; the last one is judged.
    asked, length, longest : float
        Requested, present and longest allowed length of a session in seconds.
    fruitless : int
        Number of successive sessions of this length that brought nothing new to the store.

    Returns
    -------
    longer : (float, str) or None
        The new length in seconds and a sentence for the user.
    """
    last = sessions[-1]
    if length >= longest or last.opened is None or last.ending == "complete":
        return None
    lost = overhead(last)
    if lost > _SHARE * length:
        longer, why = lost / _SHARE, startup_message(last, length)
    elif fruitless >= PATIENCE and length < _UNMEASURED * asked:
        longer, why = 2 * length, f"{PATIENCE} successive sessions of {show_duration(length)} brought nothing new"
    else:
        return None
    longer = min(rounded_up(longer), longest)
    return longer, f"{why}: from now on sessions are {show_duration(longer)} long"


def hopeless(sessions: list[RehearsedSession], length: float, longest: float, fruitless: int) -> str:
    """Return why no session of an allowed length makes progress and what to do; an empty string if one can."""
    last = sessions[-1]
    if last.ending == "complete":
        return ""
    full = last.opened is not None and last.to_work is None and last.length >= length
    too_long = full or (last.to_work is not None and last.to_work >= length)
    if fruitless < PATIENCE and not (length >= longest and too_long and fruitless):
        return ""
    needed = max(3 * overhead(last), 2 * length)
    advice = f"use --session {spelled(rounded_up(needed))}, or smaller work (--smoke)"
    if overhead(last) > _SHARE * length:
        return f"{startup_message(last, length)}: {advice}"
    firsts = [session.first_work for session in sessions[-PATIENCE:] if session.first_work is not None]
    work = f"the first work ended {show_duration(max(firsts))} after opening" if firsts else "no work was done"
    many = f"{PATIENCE} successive sessions of {show_duration(length)}"
    return f"{many} brought nothing new to the store, and {work}: {advice}"


def startup_message(session: RehearsedSession, length: float) -> str:
    """Return a text such as ``Start-up took 34 s of 30 s``."""
    least = "" if session.to_work is not None else "more than "
    spent = session.to_work if session.to_work is not None else session.length
    after = f", the cells after the work {show_duration(session.ending_s)}" if (session.ending_s or 0.0) >= 0.1 else ""
    return f"Start-up took {least}{show_duration(spent)} of {show_duration(length)}{after}"


def rounded_up(seconds: float) -> float:
    """Return the next round number of seconds that is at least as long."""
    step = next(step for below, step in _ROUNDING if seconds < below)
    return float(math.ceil(seconds / step) * step)


def spelled(seconds: float) -> str:
    """Return a length in the form that the command line accepts, such as ``45s`` or ``2min``."""
    return f"{seconds / 60:.0f}min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:.0f}s"
