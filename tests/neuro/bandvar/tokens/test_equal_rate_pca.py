"""The linear tokenizer: known levels, an even spend, and the rate it says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nbkit.neuro.bandvar.tokens.equal_rate_pca import (
    EqualRatePCA,
    explained,
    gaussian_distortion,
    gaussian_levels,
    spread_bits,
)


@pytest.mark.parametrize(("bits", "error"), [(0, 1.0), (1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_levels_are_max_and_lloyds(bits, error):
    # Max 1960, "Quantizing for minimum distortion", table I
    assert gaussian_distortion(gaussian_levels(bits)) == pytest.approx(error, rel=2e-3)


def test_one_bit_is_the_mean_of_each_half():
    np.testing.assert_allclose(gaussian_levels(1), [-np.sqrt(2 / np.pi), np.sqrt(2 / np.pi)])


def test_bits_are_spent_as_the_best_of_all_spends():
    variances, distortion = np.array([9.0, 4.0, 1.0]), np.array([1.0, 0.3634, 0.1175, 0.03454, 0.0095])
    spent = spread_bits(variances, 4, distortion)

    def error(spend):
        return sum(v * distortion[b] for v, b in zip(variances, spend, strict=True))

    best = min((spend for spend in product(range(5), repeat=3) if sum(spend) == 4), key=error)
    assert error(spent) == pytest.approx(error(best)) and spent.sum() == 4


def test_a_window_costs_its_bits_and_more_bits_explain_more():
    draws = np.random.default_rng(0)
    mix = draws.normal(size=(6, 2 * 3 * 20))
    train, held_out = ((draws.normal(size=(n, 6)) @ mix).reshape(n, 2, 3, 20) for n in (300, 100))
    shares = []
    for bits in (6, 12, 36):
        coder = EqualRatePCA(bits).fit(train)
        assert coder.spent.sum() == bits
        coded = coder.reconstruct(held_out)
        assert len(np.unique(coded.round(9).reshape(100, -1), axis=0)) <= 2**bits
        shares.append(explained(held_out, coded)[1])
    assert shares == sorted(shares) and shares[-1] > 0.97


def test_explained_is_of_power():
    true = np.random.default_rng(0).normal(size=(4, 2, 3, 10))
    by_band, whole = explained(true, 0 * true)
    np.testing.assert_allclose([*by_band, whole], 0, atol=1e-12)
    assert explained(true, true) == ([1.0, 1.0], 1.0)
