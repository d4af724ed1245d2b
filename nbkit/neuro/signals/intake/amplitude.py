"""Amplitudes: whether a signal can be EEG in the unit that was declared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.neuro.signals.intake.facts import Stretch

PLAUSIBLE_UV = (0.5, 500.0)
_BAND_HZ = (1.0, 40.0)
_MOST_S = 120.0  # of each recording, spread over its stretches
_SHORTEST_S = 1.0


def robust_amplitude(signal: np.ndarray, sfreq: float, stretches: Sequence[Stretch]) -> np.ndarray:
    """Return the robust standard deviation of every channel from 1 to 40 Hz, in the unit of the signal.

    Parameters
    ----------
    signal : array of shape (channels, time)
    sfreq : float
        In Hz.
    stretches : sequence of Stretch
        A filter never crosses from one to the next.

    Returns
    -------
    amplitude : array of shape (channels,)
        1.4826 times the median absolute deviation, so that some seconds of artefacts change little.
    """
    from scipy.signal import butter, detrend, sosfiltfilt

    low, high = _BAND_HZ[0], min(_BAND_HZ[1], 0.45 * sfreq)
    sos = butter(2, (low, high), "bandpass", fs=sfreq, output="sos")
    share = int(_MOST_S * sfreq)
    pieces, taken = [], 0
    for stretch in sorted(stretches, key=lambda s: s.start - s.stop):
        length = min(stretch.stop - stretch.start, share - taken)
        if length < _SHORTEST_S * sfreq and pieces:
            break
        begin = stretch.start + (stretch.stop - stretch.start - length) // 2
        piece = np.nan_to_num(signal[:, begin : begin + length])
        usual = detrend(piece, axis=1)
        pieces.append(sosfiltfilt(sos, usual, axis=1) if length > 3 * int(sfreq) else usual)
        taken += length
        if taken >= share:
            break
    joined = np.concatenate(pieces, axis=1)
    return 1.4826 * np.median(np.abs(joined - np.median(joined, axis=1, keepdims=True)), axis=1)
