"""Words with times from Praat's TextGrid files, as forced aligners write them.

Both text forms are read: the long one (``xmin = 0.5``) and the short one (values alone). The format is described in
Praat's manual (https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html).
"""

from __future__ import annotations

import re
from pathlib import Path

from nbkit.neuro.tribe.stimuli.decode import Word

SILENCE = frozenset({"", "sp", "sil", "ns", "br", "lg", "cg", "ls", "<p>", "<sil>", "{sl}", "{ns}", "{br}", "{lg}"})
_TOKENS = re.compile(r'"((?:[^"]|"")*)"|<exists>|<absent>|(?<![\w\[.])(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?![\w\]])')


def read_textgrid(path: str | Path, tier: str = "word", start_s: float = 0.0) -> list[Word]:
    """Return the words of an interval tier, in order of time.

    Parameters
    ----------
    path : str or Path
    tier : str
        Name of the tier, or the beginning of it, whatever its case ("word" also finds "Words").
    start_s : float
        Time in the file at which the stimulus begins, in s; it is subtracted, and words before it are left out.

    Returns
    -------
    words : list of Word
        Without silent intervals (`SILENCE`).

    Raises
    ------
    ValueError
        If the file is no TextGrid, is damaged, or has no such tier.
    """
    path = Path(path)
    tiers = _tiers(path)
    own = next((rows for name, rows in tiers if name.lower().startswith(tier.lower())), None)
    if own is None:
        raise ValueError(
            f"{path.name} has no interval tier {tier!r}; it has {', '.join(name for name, _ in tiers) or 'none'}."
        )
    words = [Word(text.strip(), begin - start_s, end - start_s) for begin, end, text in own]
    return [word for word in words if word.text.lower() not in SILENCE and word.end_s > 0]


def _tiers(path: Path) -> list[tuple[str, list[tuple[float, float, str]]]]:
    """Return the name and the intervals (start, end, text) of each interval tier."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is neither UTF-8 nor UTF-16 ({error.reason}); save it again in Praat.") from None
    found = (match.groups("") for match in _TOKENS.finditer(text))
    values = [float(number) if number else quoted.replace('""', '"') for quoted, number in found]
    if values[:2] != ["ooTextFile", "TextGrid"]:
        raise ValueError(f"{path.name} is no TextGrid in Praat's text format; export it as a text file.")
    try:
        return _read_tiers(values[2:])
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is a damaged TextGrid ({error}); export it again.") from error


def _read_tiers(values: list) -> list[tuple[str, list[tuple[float, float, str]]]]:
    # after the two times come an empty text (the flag <exists>), the number of tiers, and the tiers one by one
    place, tiers = 3 if values[2] == "" else 2, []
    count = _whole(values[place])
    place += 1
    for _ in range(count):
        kind, name = str(values[place]), str(values[place + 1])
        size = _whole(values[place + 4])
        place += 5
        if kind == "IntervalTier":
            rows = [tuple(values[place + 3 * i : place + 3 * i + 3]) for i in range(size)]
            for row in rows:
                if len(row) != 3 or not isinstance(row[2], str) or not float(row[0]) <= float(row[1]):
                    raise ValueError(f"an interval of the tier {name!r} is {row}")
            tiers.append((name, [(float(begin), float(end), text) for begin, end, text in rows]))
            place += 3 * size
        elif kind == "TextTier":
            place += 2 * size
        else:
            raise ValueError(f"a tier of the kind {kind!r}")
    return tiers


def _whole(value: object) -> int:
    number = float(value)  # type: ignore[arg-type]
    if not (number.is_integer() and 0 <= number < 1e7):
        raise ValueError(f"a size of {value!r}")
    return int(number)
