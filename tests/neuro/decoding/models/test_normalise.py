"""Scales: each recipe against its words, window by window."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.decoding.models.normalise import _RECIPES, BENDR_RANGE_UV, normalise
from nbkit.neuro.decoding.models.table import MODELS


@pytest.fixture
def windows():
    draws = np.random.default_rng(0)
    return draws.normal(size=(4, 5, 300)) * draws.uniform(5, 80, size=(4, 5, 1)) + draws.normal(size=(4, 5, 1)) * 100


def test_every_model_has_a_recipe_and_every_recipe_a_model():
    assert {spec.normalisation for spec in MODELS.values()} == set(_RECIPES)


@pytest.mark.parametrize("recipe", sorted(_RECIPES))
def test_windows_know_nothing_of_one_another(windows, recipe):
    together, said = normalise(windows, recipe)
    alone = np.concatenate([normalise(window[None], recipe)[0] for window in windows])
    np.testing.assert_array_equal(together, alone)
    assert said and np.isfinite(normalise(np.zeros((1, 3, 50)), recipe)[0]).all()  # a flat window stays finite


def test_recipes_by_hand(windows):
    one, channel = windows[2], windows[2, 3]
    for recipe, by_hand in {
        "microvolt": channel,
        "hundredth": channel / 100,
        "percentile_95": channel / sorted(abs(channel))[284:286][0],
        "channel_z": (channel - np.mean(channel)) / np.std(channel),
    }.items():
        np.testing.assert_allclose(normalise(windows, recipe)[0][2, 3], by_hand, rtol=5e-3)
    against_average = channel - one.mean(0)
    truth = (against_average - against_average.mean()) / against_average.std()
    np.testing.assert_allclose(normalise(windows, "average_z")[0][2, 3], truth, atol=1e-6)


def test_percentile_leaves_one_in_twenty_above_one(windows):
    above = (np.abs(normalise(windows, "percentile_95")[0]) > 1).mean(-1)
    np.testing.assert_allclose(above, 0.05, atol=0.004)


def test_an_artefact_is_cut_at_fifteen_deviations(windows):
    windows[0, 0] = np.random.default_rng(1).normal(size=300)
    windows[0, 0, 7] = 1e6
    assert normalise(windows, "channel_z")[0][0, 0, 7] > 16
    assert normalise(windows, "channel_z_15")[0].max() == 15


def test_bendrs_scale_says_how_large_a_window_was(windows):
    found = normalise(windows, "min_max_scale")[0]
    assert found.shape == (4, 6, 300)
    for window, row in zip(found, windows, strict=True):
        assert window[:5].min() == -1 and window[:5].max() == pytest.approx(1)
        assert np.ptp(window[5]) == 0
        assert window[5, 0] == pytest.approx(2 * (np.ptp(row) / BENDR_RANGE_UV - 0.5))
    larger = normalise(windows * 2, "min_max_scale")[0]
    np.testing.assert_allclose(larger[:, :5], found[:, :5], atol=1e-6)
    assert (larger[:, 5] > found[:, 5]).all()
    assert (normalise(windows * 1e6, "min_max_scale")[0][:, 5] == 1).all()


def test_refuses_an_unknown_recipe(windows):
    with pytest.raises(ValueError, match="no normalisation 'z'; there are: average_z, "):
        normalise(windows, "z")
