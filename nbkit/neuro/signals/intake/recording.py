"""One continuous recording from any source.

The signal is in uV, times count from its first sample, and synthetic data are labelled as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nbkit.neuro.signals.intake.facts import RecordingFacts, Stretch

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class Recording:
    """A continuous multichannel signal with its events.

    Parameters
    ----------
    signal : array of shape (channels, time)
        In uV.
    sfreq : float
        Sampling rate, in Hz.
    ch_names : tuple of str
    onsets_s, durations_s : tuple of float
        Starts and lengths of the events, in s from the first sample.
    labels : tuple of str
        Names of the events.
    columns : tuple of mapping of str to str
        Further columns of each event in events.tsv.
    data : str
        "real", or the description of synthetic data.
    stretches : tuple of Stretch
        Parts of the signal without a gap; one if none are given.
    facts : RecordingFacts, optional
        What was read, what was left out, and why.
    """

    signal: np.ndarray
    sfreq: float
    ch_names: tuple[str, ...]
    onsets_s: tuple[float, ...] = ()
    durations_s: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    columns: tuple[Mapping[str, str], ...] = ()
    data: str = "real"
    stretches: tuple[Stretch, ...] = ()
    facts: RecordingFacts | None = None

    def __post_init__(self) -> None:
        if not self.stretches:
            object.__setattr__(self, "stretches", (Stretch(0, self.signal.shape[1], 0.0),))

    def as_raw(self) -> mne.io.BaseRaw:
        """Return the recording as an mne recording, in V."""
        import mne

        info = mne.create_info(list(self.ch_names), self.sfreq, "eeg")
        raw = mne.io.RawArray(self.signal * 1e-6, info, verbose="error")
        return raw.set_annotations(mne.Annotations(self.onsets_s, self.durations_s, self.labels))

    @property
    def seconds(self) -> float:
        """Length, in s."""
        return self.signal.shape[1] / self.sfreq
