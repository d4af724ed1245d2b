"""Embed a recording of any montage and sampling frequency at regular intervals.

The time of an embedding is the centre of its window, and only whole windows are embedded: the first time is half a
window after the start of the recording, and the last is half a window or more before its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.preparing import resample
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.signals.intake.ch_names import TWINS, electrode
from nbkit.neuro.signals.intake.cleaning import Cleaning, clean_again
from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.intake.recording import Recording

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class RecordingEmbedding:
    """A recording as a sequence of a model's embeddings.

    Parameters
    ----------
    embeddings : float32 ndarray of shape (windows, dim)
    times_s : ndarray of shape (windows,)
        Centres of the windows, in s from the recording's first sample.
    window_s : float
        Length of a window, in s.
    weights : str
        Description of the model's weights.
    said : tuple of str
        Description of each step of the preprocessing.
    """

    embeddings: np.ndarray
    times_s: np.ndarray
    window_s: float
    weights: str
    said: tuple[str, ...]


def embed_recording(
    raw: mne.io.BaseRaw | Recording | str | Path,
    model: FoundationModel | str,
    every: float = 1.0,
    *,
    weights: str | Path = "hub",
    window: float = 4.0,
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
    filtered: bool = True,
    mains: float | None = None,
    batch_size: int = 32,
    device: str | None = None,
    precision: str = "fp32",
) -> RecordingEmbedding:
    """Embed a recording, window by window.

    Channels that are marked as bad or are not EEG are left out; the model's channels at their positions are
    interpolated.

    Parameters
    ----------
    raw : mne.io.BaseRaw, Recording or path
        In V for MNE and in uV for `Recording`, as usual in each; or a file that `read_recording` reads.
    model : FoundationModel or str
        A model that is already built, or a key of `list_foundation_models`.
    every : float
        Time between windows, in s.
    weights : "hub", "random" or path
        Weights, if the model is given by its key.
    window : float
        Length of a window in s, if the model is given by its key.
    positions, template
        Positions of the channels, see `directions`; by default those of the recording's montage.
    filtered : bool
        Whether to clean the recording as the model's authors cleaned theirs (see `ModelSpec.cleaning`). Models
        pretrained with nbkit always get the unfiltered recording.
    mains : float, optional
        Frequency of the mains, if the model is given by its key; see `load_model`.
    batch_size, device, precision
        See `FoundationModel.embed`.

    Returns
    -------
    embedding : RecordingEmbedding

    Raises
    ------
    ValueError
        If the recording is shorter than a window, has no EEG channel, or lacks channels that the model needs.
    """
    if not every > 0:
        raise ValueError(f"Got {every=} s; the time between windows must be above 0.")
    recording, laid = _taken(raw)
    positions = laid if positions is None and laid else positions
    if isinstance(model, str):
        model = load_model(
            model, weights=weights, ch_names=recording.ch_names, window=window, positions=positions, template=template,
            mains=mains,
        )  # fmt: skip
    if not np.isfinite(recording.signal).all():
        rows = zip(recording.ch_names, recording.signal, strict=True)
        strange = [name for name, row in rows if not np.isfinite(row).all()]
        raise ValueError(f"Values that are not finite in {', '.join(strange[:8])}; mark these channels as bad.")
    cleaned, words = _suited(recording, model, filtered)
    embedded, times, said = [], [], words
    for stretch in cleaned.stretches:
        signal = cleaned.signal[:, stretch.start : stretch.stop]  # no window crosses a gap
        spare = signal.shape[1] - model.n_times
        begins = np.round(np.arange(int(spare / model.sfreq / every + 1e-9) + 1) * every * model.sfreq).astype(int)
        for first in range(0, len(begins) if spare >= 0 else 0, batch_size):
            cut = np.stack([signal[:, b : b + model.n_times] for b in begins[first : first + batch_size]])
            prepared = model.prepare(cut, recording.ch_names, model.sfreq, positions, template)
            embedded.append(model.embed(prepared, batch_size, device, precision))
            said = (*words, *prepared.said)
        if spare >= 0:
            times.append(stretch.start_s + (begins + model.n_times / 2) / model.sfreq)
    if not embedded:
        longest = max(stretch.stop - stretch.start for stretch in recording.stretches) / recording.sfreq
        raise ValueError(
            f"The recording has {longest:.2f} s{' without a gap' if len(recording.stretches) > 1 else ''}, a window of "
            f"{model.key} {model.seconds:g} s. Build the model with a shorter window."
        )
    return RecordingEmbedding(np.concatenate(embedded), np.concatenate(times), model.seconds, model.weights, said)


def _suited(recording: Recording, model: FoundationModel, filtered: bool) -> tuple[Recording, tuple[str, ...]]:
    """Return a recording as the model's authors cleaned theirs, at its rate, and what was done."""
    rate = f"resampled from {recording.sfreq:g} to {model.sfreq:g} Hz"
    said = (rate,) if recording.sfreq != model.sfreq else ()
    if filtered and model.cleaning is not None:
        cleaned, heard = clean_again(recording, model.cleaning)
        return cleaned, (model.cleaning.words(recording.sfreq), *said, *heard)
    if recording.sfreq == model.sfreq:
        return recording, ()
    pieces, found, begin = [], [], 0
    for stretch in recording.stretches:
        pieces.append(resample(recording.signal[:, stretch.start : stretch.stop], recording.sfreq, model.sfreq))
        found.append(Stretch(begin, begin + pieces[-1].shape[1], stretch.start_s))
        begin += pieces[-1].shape[1]
    signal = np.concatenate(pieces, axis=1)
    return replace(recording, signal=signal, sfreq=model.sfreq, stretches=tuple(found)), said


def _taken(raw: mne.io.BaseRaw | Recording | str | Path) -> tuple[Recording, dict[str, np.ndarray]]:
    """Return the EEG channels of a recording in uV, and their positions if the recording has them."""
    if isinstance(raw, Recording):
        return raw, {}
    recording = read_recording(raw, replace(Cleaning.none(), bads="drop"))
    montage = None if isinstance(raw, str | Path) else raw.get_montage()
    places = montage.get_positions()["ch_pos"] if montage is not None else {}
    known = {electrode(name): at for name, at in places.items() if np.isfinite(at).all()}
    # a recording's channels have the names of today; its montage may have the older ones
    found = {name: known.get(electrode(name), known.get(TWINS.get(electrode(name), ""))) for name in recording.ch_names}
    return recording, {name: at for name, at in found.items() if at is not None}
