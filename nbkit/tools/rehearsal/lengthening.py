"""Lengthen a rehearsal's sessions where start-up leaves no room for work.

Start-up is measured to the first item or step and not to the opening: imports, data and the first batch come after the
opening, and on a busy machine they can fill a session of 15 s without one step.
"""

from __future__ import annotations

import math

from nbkit.runtime.words import show_duration
from nbkit.tools.rehearsal.accounts import Stay

PATIENCE = 3  # successive sessions without progress
LONGEST = 600.0  # seconds; a start-up that fills more than this needs a decision, not a longer wait
_BLINDLY = 4  # times the length asked for, where no start-up was measured that says how much is needed
_SHARE = 0.4  # of a session for start-up and for the cells after the work; the rest is work
_NICE = ((10, 1), (60, 5), (600, 30), (math.inf, 60))  # seconds below the first are rounded up to the second


def overhead(stay: Stay) -> float:
    """Return the seconds of a session that were no work: up to its first item or step, and after its last.

    Where no work began, this is the session's length: start-up took at least that.
    """
    if stay.to_work is None:
        return stay.length
    return stay.to_work + (stay.ending_s or 0.0)


def lengthened(
    stays: list[Stay], asked: float, length: float, longest: float, fruitless: int
) -> tuple[float, str] | None:
    """Return a longer session and the reason in words; None where this length serves, or none is allowed.

    Parameters
    ----------
    stays : list of Stay
        The sessions so far, of which the last one is looked at.
    asked, length, longest : float
        Seconds of a session as asked for, now, and at most.
    fruitless : int
        Successive sessions of this length that brought nothing new to the store.
    """
    last = stays[-1]
    if length >= longest or last.opened is None or last.ending == "complete":
        return None
    lost = overhead(last)
    if lost > _SHARE * length:
        longer, why = lost / _SHARE, startup_words(last, length)
    elif fruitless >= PATIENCE and length < _BLINDLY * asked:
        longer, why = 2 * length, f"{PATIENCE} successive sessions of {show_duration(length)} brought nothing new"
    else:
        return None
    longer = min(rounded_up(longer), longest)
    return longer, f"{why}: sessions are {show_duration(longer)} long from here"


def hopeless(stays: list[Stay], length: float, longest: float, fruitless: int) -> str:
    """Return why no session of an allowed length can go on, and what to do; empty where one can."""
    last = stays[-1]
    if last.ending == "complete":
        return ""
    full = last.opened is not None and last.to_work is None and last.length >= length
    too_long = full or (last.to_work is not None and last.to_work >= length)
    if fruitless < PATIENCE and not (length >= longest and too_long and fruitless):
        return ""
    needed = max(3 * overhead(last), 2 * length)
    told = f"give --session {spelled(rounded_up(needed))}, or smaller work (--smoke)"
    if overhead(last) > _SHARE * length:
        return f"{startup_words(last, length)}: {told}"
    firsts = [stay.first_work for stay in stays[-PATIENCE:] if stay.first_work is not None]
    work = f"the first work ended {show_duration(max(firsts))} after opening" if firsts else "no work was done"
    sessions = f"{PATIENCE} successive sessions of {show_duration(length)}"
    return f"{sessions} brought nothing new to the store, and {work}: {told}"


def startup_words(stay: Stay, length: float) -> str:
    """Return start-up beside the session's length, such as ``Start-up took 34 s of 30 s``."""
    least = "" if stay.to_work is not None else "more than "
    spent = stay.to_work if stay.to_work is not None else stay.length
    after = f", the cells after the work {show_duration(stay.ending_s)}" if (stay.ending_s or 0.0) >= 0.1 else ""
    return f"Start-up took {least}{show_duration(spent)} of {show_duration(length)}{after}"


def rounded_up(seconds: float) -> float:
    """Return a length that people would choose, at least as long."""
    step = next(step for below, step in _NICE if seconds < below)
    return float(math.ceil(seconds / step) * step)


def spelled(seconds: float) -> str:
    """Return a length as an option takes it, such as ``45s`` or ``2min``."""
    return f"{seconds / 60:.0f}min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:.0f}s"
