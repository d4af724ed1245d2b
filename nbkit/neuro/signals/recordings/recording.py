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

    @classmethod
    def from_raw(cls, raw: mne.io.BaseRaw, sfreq: float | None = None, name: str = "The recording") -> Recording:
        """Return the EEG channels of an mne recording, resampled to ``sfreq`` (Hz) if given.

        Raises
        ------
        ValueError
            If there is no EEG channel.
        """
        types = raw.get_channel_types()
        if "eeg" not in types:
            kinds = ", ".join(f"{types.count(k)} {k}" for k in sorted(set(types)))
            raise ValueError(f"{name} holds no EEG channel, only {kinds}. Set the channel types, or leave it out.")
        raw = raw.copy().load_data(verbose="error").pick("eeg")
        begins = raw.first_time  # annotations count from the first sample before any crop
        if sfreq is not None and sfreq != raw.info["sfreq"]:
            raw.resample(sfreq, verbose="error")
        notes = raw.annotations
        return cls(
            signal=raw.get_data() * 1e6,
            sfreq=float(raw.info["sfreq"]),
            ch_names=tuple(raw.ch_names),
            onsets_s=tuple(float(onset - begins) for onset in notes.onset),
            durations_s=tuple(float(d) for d in notes.duration),
            labels=tuple(str(label) for label in notes.description),
        )

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
