"""Declared cleaning: artifacts, notch, band, reference, bad channels and resampling, in this order, by MNE.

The settings are part of what the windows of a store depend on. The presets are those of the models' authors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.artifacts import KINDS, remove_artifacts
from nbkit.neuro.signals.intake.ch_names import electrode
from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.heard import heard
from nbkit.neuro.signals.intake.recording import Recording

_PAD = "symmetric"  # MNE's default, a point reflection, turns mains noise into a step at both ends
BADS = ("interpolate", "drop", "keep")
_FEWEST = 8  # good channels with known positions that spherical splines need


@checked
@dataclass(frozen=True)
class Cleaning:
    """Settings of the cleaning.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate after resampling, in Hz; the filters come first. None keeps that of the recording.
    l_freq, h_freq : float or None
        Edges of the band-pass filter, in Hz; None for none. An upper edge above the Nyquist rate of the recording
        changes nothing.
    notch : float or None
        Frequency of the mains, 50 or 60 Hz, removed with its harmonics; None keeps it.
    reference : {"average"} or None
        Common reference; None keeps that of the recording.
    bads : {"interpolate", "drop", "keep"}
        What to do with bad channels. A channel that cannot be interpolated is dropped, which is said.
    remove : sequence of {"blinks", "heartbeat", "muscle"}
        Artifacts whose independent components are removed; see `remove_artifacts`.
    """

    sfreq: float | None = 100.0
    l_freq: float | None = 0.5
    h_freq: float | None = None
    notch: float | None = None
    reference: str | None = None
    bads: str = "interpolate"
    remove: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.l_freq or 0.0, self.h_freq or float("inf")
        if (self.sfreq is not None and not self.sfreq > 0) or low < 0 or low >= high:
            raise ValueError(
                f"Not possible: a band from {self.l_freq} to {self.h_freq} Hz at SFREQ={self.sfreq} Hz. Give 0 <= "
                "l_freq < h_freq and a positive rate."
            )
        if self.notch is not None and not 40 <= self.notch <= 70:
            raise ValueError(f"NOTCH={self.notch} is no frequency of the mains; give 50, 60 or None.")
        if self.reference not in (None, "average"):
            raise ValueError(f"REFERENCE={self.reference!r} is unknown; give 'average' or None.")
        if self.bads not in BADS:
            raise ValueError(f"BADS={self.bads!r} is unknown; give {', '.join(BADS)}.")
        removed = (self.remove,) if isinstance(self.remove, str) else tuple(self.remove)
        object.__setattr__(self, "remove", removed)
        if unknown := sorted(set(removed) - set(KINDS)):
            raise ValueError(f"REMOVE={unknown} is unknown; give some of {', '.join(KINDS)}, or () for none.")

    @classmethod
    def labram(cls, mains: float | None = 50.0) -> Cleaning:
        """Return the cleaning of LaBraM's authors: 0.1 to 75 Hz, notch, 200 Hz (Jiang et al. 2024)."""
        return cls(200.0, 0.1, 75.0, mains)

    @classmethod
    def challenge(cls) -> Cleaning:
        """Return that of the EEG Foundation Challenge 2025: 0.5 to 50 Hz, 100 Hz."""
        return cls(100.0, 0.5, 50.0)

    @classmethod
    def none(cls, sfreq: float | None = None) -> Cleaning:
        """Return no cleaning but resampling."""
        return cls(sfreq, None, None, bads="keep")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a dict; ``remove`` only if there is something to remove, as in stores before it."""
        return {name: value for name, value in asdict(self).items() if name != "remove" or value}

    def words(self, sfreq: float) -> str:
        """Return the filters in words, as a recording of this sampling rate, in Hz, gets them."""
        high = self.h_freq if self.h_freq is not None and self.h_freq < 0.49 * sfreq else None
        band = f"filtered from {self.l_freq or 0:g} Hz " + (f"to {high:g} Hz" if high else "upwards")
        return band + (f", mains of {self.notch:g} Hz removed" if self.notch and self.notch < 0.49 * sfreq else "")


def clean(
    raw: Any, stretches: Sequence[Stretch], cleaning: Cleaning, beside: dict[str, np.ndarray] | None = None
) -> tuple[np.ndarray, tuple[Stretch, ...], tuple[str, ...], list[str]]:
    """Clean the EEG channels of a recording, stretch by stretch.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        EEG channels only, loaded, in V; ``info["bads"]`` names the bad ones.
    stretches : sequence of Stretch
    cleaning : Cleaning
    beside : dict of str to array of shape (channels, time), optional
        The EOG and ECG channels of the recording.

    Returns
    -------
    signal : array of shape (channels, time)
        In uV.
    stretches : tuple of Stretch
        In samples of the returned signal.
    repaired : tuple of str
        Channels that were interpolated.
    said : list of str
    """
    said: list[str] = []
    repaired, dropped = _bad_channels(raw, cleaning, said)
    if repaired or cleaning.remove:
        _set_positions(raw)
    if cleaning.remove:
        with heard(said):
            said += remove_artifacts(raw, beside or {}, cleaning.remove)
    pieces, found, begin = [], [], 0
    for stretch in stretches:
        part = _part(raw, stretch)
        with heard(said):  # such as of a filter that is longer than the stretch
            _filter(part, cleaning)
            if cleaning.reference == "average":
                part.set_eeg_reference("average", projection=False, verbose="warning")
            if repaired:
                part.info["bads"] = list(repaired)
                part.interpolate_bads(reset_bads=True, mode="accurate", verbose="warning")
            if cleaning.sfreq is not None and part.info["sfreq"] != cleaning.sfreq:
                part.resample(cleaning.sfreq, verbose="warning")
        data = part.get_data() * 1e6
        pieces.append(data)
        found.append(Stretch(begin, begin + data.shape[1], stretch.start_s))
        begin += data.shape[1]
    signal = np.concatenate(pieces, axis=1) if pieces else np.zeros((len(raw.ch_names), 0))
    return signal, tuple(found), repaired, said


def clean_again(recording: Recording, cleaning: Cleaning) -> tuple[Recording, list[str]]:
    """Clean a recording that was read before, such as for a model that was pretrained on another band.

    What an earlier cleaning has removed does not come back. All channels are kept.

    Returns
    -------
    recording : Recording
        With the new signal, rate and stretches.
    said : list of str
        What MNE said.
    """
    raw = recording.as_raw()
    signal, stretches, _, said = clean(raw, recording.stretches, replace(cleaning, bads="keep"))
    sfreq = float(cleaning.sfreq or recording.sfreq)
    return replace(recording, signal=signal, sfreq=sfreq, stretches=stretches), said


def _part(raw: Any, stretch: Stretch) -> Any:
    import mne

    info = raw.info.copy()
    return mne.io.RawArray(raw.get_data(start=stretch.start, stop=stretch.stop), info, verbose="error")


def _filter(part: Any, cleaning: Cleaning) -> None:
    nyquist = part.info["sfreq"] / 2
    high = cleaning.h_freq if cleaning.h_freq is not None and cleaning.h_freq < nyquist * 0.98 else None
    if cleaning.l_freq:  # else a short part keeps some of an offset
        part._data -= part._data.mean(axis=1, keepdims=True)
    if cleaning.notch is not None and cleaning.notch < nyquist * 0.98:
        # first, because the slow high-pass would spread what the mains do at both ends
        part.notch_filter(np.arange(cleaning.notch, nyquist * 0.98, cleaning.notch), pad=_PAD, verbose="warning")
    if cleaning.l_freq or high:
        part.filter(cleaning.l_freq or None, high, pad=_PAD, verbose="warning")


def _bad_channels(raw: Any, cleaning: Cleaning, said: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Decide on the bad channels, drop those that are dropped, and return the ones to interpolate and the dropped."""
    bads = tuple(raw.info["bads"])
    if not bads or cleaning.bads == "keep":
        return (), ()
    placed = _positions([name for name in raw.ch_names if name not in bads])
    repaired = tuple(name for name in bads if _positions([name])) if cleaning.bads == "interpolate" else ()
    if repaired and len(placed) < _FEWEST:
        said.append(
            f"{', '.join(repaired)} cannot be interpolated from {len(placed)} good channels with known positions (at "
            f"least {_FEWEST}): left out."
        )
        repaired = ()
    dropped = tuple(name for name in bads if name not in repaired)
    raw.drop_channels(list(dropped))
    return repaired, dropped


def _positions(names: Sequence[str]) -> dict[str, np.ndarray]:
    known = known_positions()
    return {name: known[electrode(name)] for name in names if electrode(name) in known}


@lru_cache
def known_positions() -> dict[str, np.ndarray]:
    """Return the places of the electrodes of the 10-05 system in the head frame, in m, by their plain names."""
    import mne

    builtin = mne.channels.get_builtin_montages()
    name = next(m for m in ("standard_1005", "colin27_1005") if m in builtin)
    montage = mne.channels.transform_to_head(mne.channels.make_standard_montage(name))
    return {electrode(ch): place for ch, place in montage.get_positions()["ch_pos"].items()}


def _set_positions(raw: Any) -> None:
    import mne

    montage = mne.channels.make_dig_montage(_positions(raw.ch_names), coord_frame="head")
    raw.set_montage(montage, on_missing="ignore", verbose="error")
