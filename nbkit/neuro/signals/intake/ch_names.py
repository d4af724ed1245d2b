"""Names of channels, as every part of the package reads them.

Files spell one electrode in many ways: ``EEG Fp1-REF``, ``Fp1..``, ``EEG_FP1``, ``fp1 (uV)``. `electrode` returns one
spelling for all of them. The electrodes known by name are those of MNE's montages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_UNIT = re.compile(r"\s*[(\[]\s*(?:[munµμ]|micro|milli)?\s*V(?:olts?)?\s*[)\]]$", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:(?:EEG|RAW|POL|CHAN|CHANNEL)(?:[ _:.-]+|$)|EEG(?=(?:FP|AF|F|FC|FT|C|CP|TP|T|P|PO|O)[Z\d]))")
_SUFFIX = re.compile(
    r"[ _./:-](?:REF\d?|REFERENCE|LE|AVG|AV|AR|CAR|AA|CLE|LER|A1|A2|M1|M2|A1\+?A2|M1\+?M2|\(A1\+A2\)(?:/2)?|A12|M12|"
    r"\(M1\+M2\)(?:/2)?|LINKED ?EARS|EARS|TP9|TP10|CZREF|VREF|G2|ORG)$"
)
_EAR_BEHIND = re.compile(r"([FCPOT]{1,2}[Z\d]{1,2})(?:A1|A2|M1|M2)")  # C3A2, as sleep laboratories write it
_EARS = {"A1", "A2", "M1", "M2", "A1A2", "M1M2", "REF", "LE", "AVG", "GND", "NZ", "LPA", "RPA"}
_NUMBERED = re.compile(r"([A-I])0+(\d+)")

# Sites with an older name in the 10-20 system and another in the 10-10 system.
_OLD = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
TWINS = {**_OLD, **{new: old for old, new in _OLD.items()}}


def electrode(name: str) -> str:
    """Return a channel's name in upper case, without the prefixes and suffixes that recording systems add.

    A difference of two electrodes keeps both names. A reference is dropped only if an electrode stands in front of
    it, so ``A2-A1``, which compares the ears, stays what it is.

    Examples
    --------
    >>> electrode("Fc5."), electrode("EEG T3-REF"), electrode("C3-M2"), electrode("EEG A2-A1"), electrode("Fp1-F7")
    ('FC5', 'T3', 'C3', 'A2-A1', 'FP1-F7')
    """
    plain = _UNIT.sub("", name.strip()).strip().rstrip(".").strip().upper()
    plain = re.sub(r"\s*-\s*", "-", plain)
    while (shorter := _PREFIX.sub("", plain)) != plain and shorter and not shorter.isdecimal():
        plain = shorter
    while (shorter := _SUFFIX.sub("", plain)) != plain and shorter and shorter not in _EARS:
        plain = shorter.rstrip(".")
    if (found := _EAR_BEHIND.fullmatch(plain)) is not None:
        plain = found[1]
    return _NUMBERED.sub(r"\1\2", plain) if _NUMBERED.fullmatch(plain) else plain


@lru_cache
def scalp_names() -> frozenset[str]:
    """Return the names of all scalp electrodes in MNE's montages and in the older 10-20 system."""
    import mne

    found = set(TWINS)
    for montage in mne.channels.get_builtin_montages():
        names = mne.channels.make_standard_montage(montage).ch_names
        # optodes, and electrodes that are only numbered, say nothing about a channel of that name
        found |= set() if montage.startswith("artinis") else {electrode(n) for n in names if not n.isdecimal()}
    return frozenset(found - _EARS)


def parts(name: str) -> tuple[str, ...]:
    """Return the electrodes that a channel is the difference of; one name if it is no difference."""
    plain = electrode(name)
    whole = tuple(part.strip() for part in plain.split("-"))
    return whole if len(whole) == 2 and all(whole) and not whole[1].isdecimal() else (plain,)


def is_scalp(name: str, others: Sequence[str] = ()) -> bool:
    """Return whether a name is that of a scalp electrode, or of a difference with at least one.

    Parameters
    ----------
    name : str
    others : sequence of str
        All names of the recording: ``A1`` and ``A2`` are ears, but electrodes of BioSemi's net beside ``A3``.
    """
    known = scalp_names()
    if electrode(name) in {"A1", "A2"}:
        return "A3" in {electrode(other) for other in others}
    return all(part in known or part in _EARS for part in parts(name)) and any(p in known for p in parts(name))


def is_between_references(name: str) -> bool:
    """Return whether a channel is an ear, a mastoid or a reference, or a difference of two of them."""
    return all(part in _EARS for part in parts(name))
