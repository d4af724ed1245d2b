"""Surrogates keep spectra and cross-spectra, and lose everything else."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.signals.surrogate import phase_randomised, seed_of


@pytest.mark.parametrize("steps", [600, 601])
def test_spectra_and_cross_spectra_stay(steps):
    signal = np.random.default_rng(0).normal(size=(4, steps)).cumsum(axis=1)
    surrogate = phase_randomised(signal, seed=3)
    ours, theirs = np.fft.rfft(surrogate), np.fft.rfft(signal)
    cross = [spectrum[:, None] * spectrum[None].conj() for spectrum in (ours, theirs)]
    np.testing.assert_allclose(*cross, atol=1e-6 * np.abs(cross[1]).max())
    assert np.isrealobj(surrogate) and surrogate.shape == signal.shape
    assert abs(np.corrcoef(surrogate[0] - surrogate[0].mean(), signal[0])[0, 1]) < 0.9
    np.testing.assert_allclose(surrogate.mean(axis=1), signal.mean(axis=1))


def test_a_relation_across_bands_is_lost():
    time = np.arange(6000) / 100
    slow = np.sin(2 * np.pi * 1.03 * time)
    signal = np.stack([slow + np.sin(2 * np.pi * 10 * time) * (slow > 0)])
    loud = [_loudness_by_phase(one[0]) for one in (signal, phase_randomised(signal, 0))]
    assert loud[0] > 3 and 0.5 < loud[1] < 2


def _loudness_by_phase(signal: np.ndarray) -> float:
    """Return the power at 10 Hz where the slow wave is up, over that where it is down."""
    spectrum, freqs = np.fft.rfft(signal), np.fft.rfftfreq(len(signal), 0.01)
    slow, fast = (np.fft.irfft(spectrum * ((freqs > low) & (freqs < high))) for low, high in ((0.5, 2), (7, 13)))
    return float(np.mean(fast[slow > 0.5] ** 2) / np.mean(fast[slow < -0.5] ** 2))


def test_the_same_seed_gives_the_same_surrogate_and_every_part_its_own():
    signal = np.random.default_rng(0).normal(size=(2, 100))
    np.testing.assert_array_equal(phase_randomised(signal, 5), phase_randomised(signal, 5))
    assert not np.allclose(phase_randomised(signal, 5), phase_randomised(signal, 6))
    assert seed_of("a/windows.json:0", 1) == seed_of("a/windows.json:0", 1) != seed_of("b/windows.json:0", 1)


def test_a_signal_has_channels():
    with pytest.raises(ValueError, match="made of"):
        phase_randomised(np.zeros(5), 0)
