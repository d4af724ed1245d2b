"""Text for people: durations and counts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from nbkit.runtime.errors import UsageError

_UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(d|h|min|ms|m|s)?\s*", re.IGNORECASE)


LONGEST = 1e9  # seconds, 31 years: what waits and timers of a system can take


def parse_duration(value: str | float | None) -> float | None:
    """Return a duration in seconds.

    Parameters
    ----------
    value : str, float or None
        ``"9h"``, ``"1h30m"``, ``"20s"``, a number of seconds, or None (no limit).

    Raises
    ------
    UsageError
        For anything else, and unless the duration is above zero.
    """
    if value is None:
        return None
    seconds: float | None
    if isinstance(value, str) or isinstance(value, bool) or not isinstance(value, int | float):
        seconds = _parse(str(value))
    else:
        seconds = min(value, 2 * LONGEST)  # a whole number may be too large for a float
    if seconds is None or not 0 < seconds <= LONGEST:  # not a number is neither
        raise UsageError(
            f"The duration {str(value)[:40]!r} is not valid. Write '9h', '90min', '1h30m', '20s' or seconds above 0 "
            f"(at most {LONGEST:.0e}; None for no limit)."
        )
    return float(seconds)


def _parse(text: str) -> float | None:
    position, total = 0, 0.0
    text = text.strip()
    while position < len(text):
        part = _PART.match(text, position)
        # "1h30" is rejected: some mean 30 minutes, others 30 seconds
        if not part or (part[2] is None and (position or part.end() < len(text))):
            return None
        total += float(part[1]) * _UNITS[(part[2] or "s").lower()]
        position = part.end()
    return total if text else None


def show_duration(seconds: float | None) -> str:
    """Return a duration as text, such as ``1 h 30 min`` or ``4.2 s``."""
    if seconds is None or math.isinf(seconds):
        return "no limit"
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 10:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{sign}{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{sign}{minutes} min {rest} s" if rest else f"{sign}{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{sign}{hours} h {minutes} min" if minutes else f"{sign}{hours} h"
    return f"{sign}{hours / 24:.1f} days"


def counted(count: int, what: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "item"), counted(1200, "item")
    ('1 item', '1,200 items')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def abridged(text: str, most: int = 4000) -> str:
    """Return a text, or its head and tail where it is longer: an error's message may hold megabytes.

    Examples
    --------
    >>> abridged("x" * 20 + "y" * 20, most=10)
    'xxxxx [30 characters left out] yyyyy'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def printable(text: str) -> str:
    r"""Return a text that any stream can show: control characters and halves of characters as escapes.

    Line ends and tabs stay. A message may hold the name of a file that is no UTF-8, or orders to the terminal.

    Examples
    --------
    >>> printable("a.edf\x1b[2J, \udcff")
    'a.edf\\x1b[2J, \\udcff'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t " else c.encode("unicode_escape").decode() for c in text)


def message_of(error: BaseException) -> str:
    """Return the message of an error, also where the error cannot tell it."""
    try:
        return str(error)
    except Exception as fault:  # a class of the user's, named in the text
        return f"(its message cannot be shown: {type(fault).__name__})"


def last_line(error: str, width: int = 200) -> str:
    """Return the last line of a traceback, without characters that control a terminal."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    text = "".join(c if c.isprintable() else "?" for c in lines[-1].strip()) if lines else "no message"
    return text if len(text) <= width else text[: width - 3] + "..."


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are.

    Examples
    --------
    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
