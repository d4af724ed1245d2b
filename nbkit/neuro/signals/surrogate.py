"""Phase-randomised surrogates of recordings.

A surrogate has the spectrum of every channel and the cross-spectrum of every pair of channels, and nothing else: it is
a stationary linear Gaussian process. What a model predicts better on a recording than on its surrogate is not explained
by the filters, nor by any linear relation (Theiler et al. 1992, https://doi.org/10.1016/0167-2789(92)90102-S; Prichard
and Theiler 1994, https://doi.org/10.1103/PhysRevLett.73.951).
"""

from __future__ import annotations

import zlib

import numpy as np


def phase_randomised(signal: np.ndarray, seed: int) -> np.ndarray:
    """Return a surrogate with the spectrum and the cross-spectrum of a signal.

    At each frequency the phases of all channels are turned by one random angle, so the differences between channels
    stay. The Fourier transform takes the signal as periodic; the jump from its end to its beginning becomes a
    part of the spectrum, which is small for seconds of EEG above 0.5 Hz.

    Parameters
    ----------
    signal : array of shape (channels, time)
        A part of a recording without gaps, in any unit.
    seed : int
        Seed of the angles.

    Returns
    -------
    surrogate : array of shape (channels, time)
        float64, in the unit of the signal.

    Raises
    ------
    ValueError
        If the signal does not have two axes.
    """
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim != 2:
        raise ValueError(f"The signal has shape {signal.shape}; a surrogate is made of (channels, time).")
    spectrum = np.fft.rfft(signal, axis=1)
    turn = np.exp(2j * np.pi * np.random.default_rng(seed).random(spectrum.shape[1]))
    turn[0] = 1.0  # the mean has no phase, nor has the Nyquist frequency of an even length
    if signal.shape[1] % 2 == 0:
        turn[-1] = 1.0
    return np.fft.irfft(spectrum * turn, n=signal.shape[1], axis=1)


def seed_of(name: str, seed: int) -> int:
    """Return the seed of one part of a data set: the same in every session, and another for every name."""
    return zlib.crc32(f"{seed}:{name}".encode())
