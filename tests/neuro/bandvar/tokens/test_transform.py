"""Bases and bits: orthonormal, held to the band, and shared as water finds its level."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.tokens.transform import fit_bases, shared_out, water_level
from nbkit.neuro.signals.bands import cumulative_frequency_levels

BANDS = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 49.0))


@pytest.fixture(scope="module")
def bands():
    """Windows of 1 s of four channels that share two sources, in units of the RMS of each band."""
    draws = np.random.default_rng(0)
    signal = draws.normal(size=(4, 2)) @ np.cumsum(draws.normal(size=(2, 20_000)), axis=1)
    levels = cumulative_frequency_levels(signal, 100.0, BANDS)[:, :, 500:-500]
    single = np.diff(levels, axis=0, prepend=0.0).reshape(5, 4, 190, 100).transpose(2, 0, 1, 3)
    return single / np.sqrt((single**2).mean(axis=(0, 2, 3)))[:, None, None]


def test_a_basis_is_orthonormal_and_holds_its_band(bands):
    for number, basis in enumerate(fit_bases(bands, 20, 64)):
        np.testing.assert_allclose(basis.patterns.T @ basis.patterns, np.eye(4), atol=1e-9)
        np.testing.assert_allclose(basis.courses @ basis.courses.T, np.eye(len(basis.courses)), atol=1e-9)
        turned = basis.coefficients(bands[:, number]).reshape(190, 4, -1)
        back = basis.patterns @ turned @ basis.courses
        assert np.mean((back - bands[:, number]) ** 2) < 0.02
        assert basis.sizes.sum() == len(basis.places) == len(set(basis.places.tolist()))
        spectrum = np.abs(np.fft.rfft(basis.courses[:4] * np.hanning(100), axis=1)) ** 2
        low, high = BANDS[number]
        inside = (np.fft.rfftfreq(100, 0.01) >= low - 2.5) & (np.fft.rfftfreq(100, 0.01) <= high + 2.5)
        assert spectrum[:, inside].sum() > 0.97 * spectrum.sum()


def test_tokens_go_where_they_are_needed(bands):
    lengths = [len(basis.sizes) for basis in fit_bases(bands, 30, 64)]
    assert sum(lengths) == 30 and min(lengths) >= 1
    loud = bands.copy()
    loud[:, 1] = loud[:, 1, :1, :1]  # one number a window
    assert [len(basis.sizes) for basis in fit_bases(loud, 30, 64)][1] == 1
    with pytest.raises(ValueError, match="too few for 5 bands"):
        fit_bases(bands, 4, 64)


def test_bits_find_their_level():
    variances = np.array([16.0, 4.0, 1.0, 0.01])
    level = water_level(variances, 3.0)
    assert level == pytest.approx(1.0, rel=1e-6)  # two bits for 16, one for 4
    best = min(
        sum(variance * 4.0**-bits for variance, bits in zip(variances, (a, b, c, 3 - a - b - c), strict=True))
        for a in np.arange(0, 3.1, 0.5) for b in np.arange(0, 3.1 - a, 0.5) for c in np.arange(0, 3.1 - a - b, 0.5)
    )  # fmt: skip
    assert np.minimum(variances, level).sum() == pytest.approx(best)


@pytest.mark.parametrize("wanted, shares", [([1, 1, 1], [2, 1, 1]), ([6, 1, 0.01], [2, 1, 1]), ([0, 8, 0], [1, 2, 1])])
def test_shares_are_whole_numbers_with_the_right_sum(wanted, shares):
    assert shared_out(wanted, 4) == shares
