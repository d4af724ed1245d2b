"""The linear predictors against least squares, planted filters and data in which there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.baselines import one_step_scores
from nbkit.neuro.bandvar.controls.linear import RIDGES, Autoregression, WienerFilter, _solved

BANDS = ((0.5, 4.0), (4.0, 40.0), (40.0, 49.0))


@pytest.fixture
def levels():
    return np.cumsum(np.random.default_rng(0).normal(size=(20, 3, 3, 60)), axis=1)


def skill(predictor, levels):
    return one_step_scores(predictor.predict(levels), levels)["skill_persistence"]


def test_the_wiener_filter_finds_a_planted_mix_of_channels_and_lags():
    draws = np.random.default_rng(0)
    mix = draws.normal(size=(3, 3))
    first = draws.normal(size=(30, 3, 100))
    second = first + draws.normal(size=first.shape)  # between these two is nothing to find
    third = second + np.einsum("ij,wjt->wit", mix, np.roll(second, 3, axis=-1))
    levels = np.stack([first, second, third], axis=1)
    fitted = WienerFilter(BANDS, 100.0, reach_s=0.05).fit(levels)
    rows = one_step_scores(fitted.predict(levels), levels)["by_stage"]
    assert rows[2]["skill_persistence"] > 0.95 and abs(rows[1]["skill_persistence"]) < 0.1
    assert skill(Autoregression(BANDS, 100.0, reach_s=0.05).fit(levels), levels) < 0.6  # the mix is what it cannot see


def test_the_autoregression_sees_the_past_of_its_own_channel_only():
    first = np.random.default_rng(1).normal(size=(30, 3, 100))
    past = np.stack([first, first + 0.8 * np.roll(first, 2, axis=-1)], axis=1)
    future = np.stack([first, first + 0.8 * np.roll(first, -2, axis=-1)], axis=1)
    bands = ((0.5, 40.0), (40.0, 49.0))
    fitted = [Autoregression(bands, 100.0, reach_s=0.05).fit(levels) for levels in (past, future)]
    assert skill(fitted[0], past) > 0.95 and skill(fitted[1], future) < 0.05
    assert fitted[0].order == 5 and skill(WienerFilter(bands, 100.0, 0.05).fit(future), future) > 0.95


@pytest.mark.parametrize("kind", [WienerFilter, Autoregression])
def test_they_are_the_least_squares_solution(levels, kind):
    fitted = kind(BANDS, 100.0, reach_s=0.02)
    fitted.fit(levels)
    design = np.concatenate(list(fitted._designs(levels[:, 1].astype(np.float32), fitted.lags(2, 3))))
    change = levels[:, 2] - levels[:, 1]
    wanted = np.concatenate([one.T if kind.across else one.reshape(-1, 1) for one in change])
    exact = np.linalg.lstsq(design, wanted, rcond=None)[0]
    np.testing.assert_allclose(_solved((design.T @ design, design.T @ wanted), RIDGES[0]), exact, atol=1e-4)
    assert fitted.ridges[2] in RIDGES and fitted.weights[2].shape == exact.shape


def test_they_have_nothing_to_say_on_independent_bands(levels):
    many = np.cumsum(np.random.default_rng(2).normal(size=(60, 3, 3, 60)), axis=1)
    for kind in (WienerFilter, Autoregression):
        assert abs(skill(kind(BANDS, 100.0, reach_s=0.03).fit(many), levels)) < 0.05


def test_slow_bands_get_fewer_lags_and_many_channels_fewer_still():
    filters = WienerFilter(((0.5, 4.0), (4.0, 8.0), (30.0, 49.0), (49.0, 50.0)), 100.0)
    assert [len(filters.lags(stage, 19)) for stage in (1, 2, 3)] == [13, 25, 101]
    assert len(filters.lags(3, 64)) * 64 <= 2100 and filters.lags(1, 64).max() <= 50


def test_they_must_be_fitted_first(levels):
    with pytest.raises(ValueError, match="call fit"):
        WienerFilter(BANDS, 100.0).predict(levels)
