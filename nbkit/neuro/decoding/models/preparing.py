"""Prepare a recording's windows for a model.

Channels, sampling frequency, length, offset and scale are converted in this order, and every step is described.
Incomplete windows raise an error: no sample and no channel is filled with invented values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nbkit.neuro.decoding.models.channels import ChannelPlan
from nbkit.neuro.decoding.models.normalise import normalise


@dataclass(frozen=True)
class Prepared:
    """Windows in the form that a model takes.

    Parameters
    ----------
    array : float32 ndarray of shape (windows, channels, time)
    said : tuple of str
        Description of each step of the preparation.
    """

    array: np.ndarray
    said: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.array)


def prepare(
    windows: np.ndarray,
    sfreq: float,
    plan: ChannelPlan,
    to_sfreq: float,
    n_times: int,
    recipe: str,
    model: str = "the model",
    centred: bool = False,
) -> Prepared:
    """Convert windows to a model's channels, sampling frequency, length and scale.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
        In uV.
    sfreq : float
        Sampling frequency of the windows, in Hz.
    plan : ChannelPlan
    to_sfreq : float
        Sampling frequency of the model, in Hz.
    n_times : int
        Number of samples that the model takes; the middle of longer windows is used.
    recipe : str
        See `normalise`.
    model : str
        Name of the model, for messages.
    centred : bool
        Subtract each channel's mean from every window, for a model whose pretraining data had no offset. The high-pass
        filters of models are slower than a window, so this is what a window by itself allows.

    Returns
    -------
    prepared : Prepared

    Raises
    ------
    ValueError
        If windows have the wrong number of channels, contain values that are not finite, or are too short.
    """
    windows = _checked(windows, plan.sources)
    said = list(plan.said)
    signal = plan.apply(windows)
    if sfreq != to_sfreq:
        signal = resample(signal, sfreq, to_sfreq)
        said.append(f"resampled from {sfreq:g} to {to_sfreq:g} Hz")
    length = signal.shape[-1]
    if length < n_times:
        raise ValueError(
            f"Windows of {windows.shape[-1]} samples at {sfreq:g} Hz ({windows.shape[-1] / sfreq:.3f} s); {model} was "
            f"built for {n_times / to_sfreq:g} s, and windows are not padded. Cut windows of that length, or build it "
            "with a shorter window."
        )
    if length > n_times:
        begin = (length - n_times) // 2
        signal = signal[..., begin : begin + n_times]
        said.append(f"the middle {n_times / to_sfreq:.3f} of {length / to_sfreq:.3f} s")
    if centred:
        signal = signal - signal.mean(axis=-1, keepdims=True)
        said.append("each channel minus its mean")
    signal, scale = normalise(signal, recipe)
    said.append(scale)
    return Prepared(np.ascontiguousarray(signal, dtype=np.float32), tuple(said))


def resample(signal: np.ndarray, sfreq: float, to_sfreq: float) -> np.ndarray:
    """Return a signal resampled to another sampling frequency, with an anti-aliasing filter.

    Parameters
    ----------
    signal : ndarray of shape (..., time)
    sfreq, to_sfreq : float
        In Hz.

    Returns
    -------
    resampled : ndarray of shape (..., ceil(time * to_sfreq / sfreq))
    """
    from scipy.signal import resample_poly

    ratio = Fraction(to_sfreq / sfreq).limit_denominator(1000)
    # Without its mean, because the phases of the filter pass an offset with gains that differ by a thousandth. Beyond
    # the ends, which have arbitrary values, a window goes on along a line through them, so that edges do not ring.
    mean = signal.mean(axis=-1, keepdims=True)
    return resample_poly(signal - mean, ratio.numerator, ratio.denominator, axis=-1, padtype="line") + mean


def _checked(windows: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:
    windows = np.asarray(windows)
    if windows.dtype not in (np.float32, np.float64):
        windows = windows.astype(np.float64)
    if windows.ndim != 3 or windows.shape[1] != len(ch_names):
        raise ValueError(
            f"Windows have shape {windows.shape} for {len(ch_names)} channel names; they must be (windows, channels, "
            "time) with a name for every channel."
        )
    bad = ~np.isfinite(windows).all(-1)
    if bad.any():
        rows, columns = np.nonzero(bad)
        first = f"window {rows[0]}, channel {ch_names[columns[0]]}"
        raise ValueError(
            f"{bad.any(1).sum()} of {len(windows)} windows hold values that are not finite (the first: {first}). Leave "
            "these windows out, or interpolate the channel before cutting windows."
        )
    return windows
