"""The contract of a recording: what was read, what was left out, and why.

It is kept with the windows of every recording and shown on the card, in the report and as a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class RecordingError(ValueError):
    """A recording cannot be used; the message names the file, the value seen and the parameter to set."""


@dataclass(frozen=True)
class Stretch:
    """Part of a recording without a gap.

    Parameters
    ----------
    start, stop : int
        First sample, and the one after the last, in the signal as it is joined.
    start_s : float
        Time of the first sample, in s of the recording's own time.
    """

    start: int
    stop: int
    start_s: float


@dataclass(frozen=True)
class RecordingFacts:
    """Facts of one recording.

    Parameters
    ----------
    file : str
        Name of the file, without its folder.
    format : str
        Suffix of the file, or the type of the object.
    sfreq : float
        Sampling rate of the file, in Hz.
    seconds : float
        Recorded time, without gaps, in s.
    unit : str
        Unit of the EEG channels as it was declared, and by whom: ``uV (header)``.
    ch_names : tuple of str
        EEG channels that are used.
    left_out : dict of str to str
        Other channels, with the reason.
    bads : dict of str to str
        EEG channels that are bad, with the reason.
    repaired : tuple of str
        Bad channels that were interpolated; the others were left out.
    amplitude_uv : dict of str to float
        Robust amplitude (1 to 40 Hz) of each EEG channel, in uV.
    stretches_s : tuple of (float, float)
        Start and end of each part without a gap, in s.
    cleaning : dict
        Settings of the cleaning.
    said : tuple of str
        What the readers and the checks said about the file.
    """

    file: str
    format: str
    sfreq: float
    seconds: float
    unit: str
    ch_names: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    bads: Mapping[str, str] = field(default_factory=dict)
    repaired: tuple[str, ...] = ()
    amplitude_uv: Mapping[str, float] = field(default_factory=dict)
    stretches_s: tuple[tuple[float, float], ...] = ()
    cleaning: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """Return the facts as lines of text for a card."""
        parts = len(self.stretches_s)
        gaps = "without a gap" if parts == 1 else f"in {parts} parts"
        channels = f"{self.file}: {len(self.ch_names)} EEG channels in {self.unit}"
        lines = [f"{channels}, {self.sfreq:g} Hz, {self.seconds:.0f} s {gaps}"]
        if self.left_out:
            lines.append("left out: " + "; ".join(f"{name} ({why})" for name, why in self.left_out.items()))
        if self.bads:
            done = {name: "interpolated" if name in self.repaired else "left out" for name in self.bads}
            lines.append("bad: " + "; ".join(f"{n} ({why}; {done[n]})" for n, why in self.bads.items()))
        return [*lines, *self.said]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
