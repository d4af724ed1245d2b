"""Units of voltage as files spell them.

A factor is never guessed: an unknown spelling has none, and the recording is refused or its unit is given by the user.
"""

from __future__ import annotations

import re
import unicodedata

# the micro sign as UTF-8 read as Latin-1, in Shift-JIS read as Latin-1, and as the replacement character
_MOJIBAKE = ("Âµ", "Î¼", "\x83\xca", "�")
_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "mk": 1e-6}
_VOLT = re.compile(r"(milli|micro|nano|mk|[mun]?)\s*-?v(?:olts?)?", re.IGNORECASE)


def volts_per(unit: str) -> float | None:
    """Return how many volts one of a unit is; None if it is no voltage, blank, or not certain.

    Examples
    --------
    >>> volts_per("µV"), volts_per("UV"), volts_per("microV"), volts_per("mV"), volts_per("%"), volts_per("")
    (1e-06, 1e-06, 1e-06, 0.001, None, None)
    """
    text = unit.strip().strip("[]()").strip()
    for wrong in _MOJIBAKE:
        text = text.replace(wrong, "u")
    text = unicodedata.normalize("NFKC", text).replace("μ", "u").replace("µ", "u")
    found = _VOLT.fullmatch(text)
    if found is None or found[1] == "M":  # MV: megavolts to some, millivolts to others
        return None
    return _PREFIXES[found[1].lower()]


def is_blank(unit: str | None) -> bool:
    """Return whether a file says nothing about a unit."""
    return unit is None or unit.strip().lower() in ("", "n/a", "na", "none", "unknown", "?", "-")
