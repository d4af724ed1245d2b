"""The spectral loss: scipy's magnitudes, blind to phase, not to power."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from nbkit.neuro.bandvar.tokens.spectral_loss import spectral_loss, stft_magnitudes


def test_magnitudes_are_scipys():
    signal = np.random.default_rng(0).normal(size=200)
    window = hann(64, sym=False)
    theirs = np.abs(ShortTimeFFT(window, 16, 100.0, fft_mode="onesided").stft(signal)) / np.sqrt((window**2).sum())
    ours = stft_magnitudes(torch.from_numpy(signal), 64).numpy().T
    first = int(np.flatnonzero([np.allclose(theirs[:, k], ours[:, 0], atol=1e-3) for k in range(theirs.shape[1])])[0])
    np.testing.assert_allclose(ours, theirs[:, first : first + ours.shape[1]], atol=1e-3)


def test_it_hears_power_and_not_phase():
    time = torch.arange(500) / 100
    tone = torch.sin(2 * torch.pi * 10 * time)
    shifted, quiet = torch.sin(2 * torch.pi * 10 * time + 1.0), 0.5 * tone
    assert spectral_loss(tone, tone) == 0
    assert spectral_loss(shifted, tone) < 0.3 * spectral_loss(quiet, tone)


def test_segments_longer_than_the_signal_are_left_out():
    signal = torch.randn(2, 50)
    assert spectral_loss(signal, 2 * signal, (32, 64)) == spectral_loss(signal, 2 * signal, (32,))
    with pytest.raises(ValueError, match="shorter than all segments"):
        spectral_loss(signal, signal, (64,))
