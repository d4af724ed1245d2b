"""A recording as it was opened: its signal, and what its file and its tables declare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nbkit.neuro.signals.intake.units import is_blank

_BREAKS = ("boundary", "new segment", "edge boundary", "bad boundary")


@dataclass(frozen=True)
class Mark:
    """A mark in a recording, in s of its own time.

    Parameters
    ----------
    onset_s, duration_s : float
    text : str
    columns : tuple of (str, str)
        The other columns of its row in events.tsv.
    """

    onset_s: float
    duration_s: float
    text: str
    columns: tuple[tuple[str, str], ...] = ()


@dataclass
class Opened:
    """A recording as it was opened.

    Attributes
    ----------
    raw : mne.io.BaseRaw
        In volts as MNE understood the file.
    file, format : str
    units : dict of str to str
        Unit of each channel as declared.
    said_by : dict of str to str
        Who declared the unit: ``header`` or ``channels.tsv``.
    read_as : dict of str to float
        Volts per unit with which MNE read a channel, where it is not 1.
    kinds : dict of str to str
        Types of channels that somebody declared (a table, a FIF file), in lower case.
    marks : list of Mark
    breaks : list of (int, float)
        First sample and its time of every part of an interrupted file; empty if there are no gaps.
    said : list of str
    """

    raw: Any
    file: str
    format: str
    units: dict[str, str] = field(default_factory=dict)
    said_by: dict[str, str] = field(default_factory=dict)
    read_as: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    breaks: list[tuple[int, float]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def declare(self, name: str, unit: str, by: str) -> None:
        """Keep a declared unit of a channel; what was declared first, by a table, stays."""
        if name not in self.units or is_blank(self.units[name]):
            self.units[name], self.said_by[name] = unit, by


def is_quality(text: str) -> bool:
    """Return whether a mark speaks of quality, as MNE's BAD_ does; it is never a label."""
    return text.strip().lower().startswith(("bad", "edge"))


def is_break(text: str) -> bool:
    """Return whether the signal jumps at a mark: where parts were cut out, or the recording was paused."""
    words = text.strip().lower().rstrip("/ ")
    return words.split("/")[-1] in _BREAKS or words.split("/")[0] == "new segment"
