"""Cut windows out of a continuous recording.

All windows are complete: none extends beyond the end of the recording. Start and length are whole samples, so the same
settings give the same windows on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def window_starts(n_times: int, sfreq: float, window_s: float, stride_s: float) -> tuple[np.ndarray, int]:
    """Return the first sample of each window, and the length of a window in samples.

    Parameters
    ----------
    n_times : int
        Samples of the recording.
    sfreq : float
        Sampling rate, in Hz.
    window_s, stride_s : float
        Length of a window and distance between starts, in s.

    Returns
    -------
    starts : int array of shape (windows,)
    length : int

    Raises
    ------
    ValueError
        If window or stride is shorter than a sample, or the recording is shorter than a window.
    """
    length, stride = int(round(window_s * sfreq)), int(round(stride_s * sfreq))
    if length < 1 or stride < 1:
        raise ValueError(
            f"Too short: {window_s=} and {stride_s=} s at {sfreq=} Hz are {length} and {stride} samples; both need at "
            "least one."
        )
    if n_times < length:
        raise ValueError(
            f"The recording has {n_times} samples ({n_times / sfreq:.2f} s at {sfreq:g} Hz), a window {length} "
            f"({window_s:g} s): no window fits. Give a window_s of at most {n_times / sfreq:.2f}."
        )
    return np.arange(0, n_times - length + 1, stride), length


def cut_windows(signal: np.ndarray, starts: Sequence[int], length: int) -> np.ndarray:
    """Cut windows of equal length out of the last axis and stack them along a new first axis.

    Parameters
    ----------
    signal : array of shape (..., time)
    starts : sequence of int
        First samples (see `window_starts`).
    length : int
        Samples of a window.

    Returns
    -------
    windows : array of shape (windows, ..., length)
    """
    signal = np.asarray(signal)
    starts = np.asarray(starts, dtype=int)
    if starts.size and (starts.min() < 0 or starts.max() + length > signal.shape[-1]):
        raise ValueError(
            f"Windows of {length} samples from {starts.min()} to {starts.max()} leave a signal of {signal.shape[-1]} "
            "samples."
        )
    return np.stack([signal[..., start : start + length] for start in starts])


def window_labels(
    starts_s: Sequence[float],
    window_s: float,
    onsets_s: Sequence[float],
    durations_s: Sequence[float],
    labels: Sequence[str],
) -> np.ndarray:
    """Return the label of the event that overlaps each window longest, or "" without overlap.

    Parameters
    ----------
    starts_s : sequence of float
        Starts of the windows, in s from the first sample.
    window_s : float
        Length of a window, in s.
    onsets_s, durations_s : sequence of float
        Starts and lengths of the events, in s from the first sample.
    labels : sequence of str
        Names of the events, such as T0, T1, T2.

    Returns
    -------
    labels : str array of shape (windows,)
    """
    onsets = np.asarray(onsets_s, float)
    durations = np.maximum(np.asarray(durations_s, float), 1e-6)  # events such as a button press have a duration of 0
    chosen = []
    for start in starts_s:
        overlap = np.minimum(onsets + durations, start + window_s) - np.maximum(onsets, start)
        best = int(np.argmax(overlap)) if overlap.size else -1
        chosen.append(str(labels[best]) if best >= 0 and overlap[best] > 0 else "")
    return np.array(chosen, dtype=str)
