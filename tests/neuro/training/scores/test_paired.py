"""Paired comparisons: the p value by all changes of sign beside SciPy's, Holm by hand, and the mean of the values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from nbkit.neuro.training.scores.paired import beside, holm, mean_interval, sign_p


def test_the_p_value_is_that_of_all_changes_of_sign():
    draws = np.random.default_rng(3)
    ours, theirs = draws.normal(0.3, 1, 9), draws.normal(0, 1, 9)
    by_hand = [abs(np.mean(np.array(s) * (ours - theirs))) for s in itertools.product((1, -1), repeat=9)]
    expected = np.mean(np.array(by_hand) >= abs((ours - theirs).mean()) - 1e-12)
    scipys = permutation_test((ours, theirs), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=1000)
    assert sign_p(ours - theirs) == pytest.approx(expected) == pytest.approx(scipys.pvalue, abs=1e-9)
    assert np.isnan(sign_p(np.array([0.4])))


def test_a_planted_difference_is_found_over_many_and_none_where_there_is_none():
    draws = np.random.default_rng(0)
    noise = draws.normal(0, 1, 60)
    assert sign_p(noise + 1.5) < 0.001 and sign_p(noise - noise.mean()) > 0.9
    low, high = mean_interval(noise + 1.5)
    assert low < (noise + 1.5).mean() < high and high - low == pytest.approx(4 * noise.std() / 60**0.5, rel=0.2)


def test_holm_is_the_step_down_procedure():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    found = holm([float("nan"), 0.02])
    assert np.isnan(found[0]) and found[1] == pytest.approx(0.02)


def test_rivals_are_paired_and_corrected_and_units_that_one_lacks_are_left_out():
    ours = np.array([0.5, 0.6, 0.7, 0.8, 0.9, np.nan])
    found = beside(ours, {"lower": ours - 0.2, "same": ours + np.array([0.1, -0.1, 0, 0, 0, 0]), "none": ours * np.nan})
    lower, same = found["rivals"]
    assert (lower["name"], lower["difference"], lower["value"]) == ("lower", pytest.approx(0.2), pytest.approx(0.5))
    assert lower["difference_low"] == pytest.approx(0.2) == lower["difference_high"]
    assert lower["p"] == pytest.approx(2 * 2 / 2**5) and same["p"] == 1.0, "times two rivals, the larger left alone"
    assert found["low"] < 0.7 < found["high"]


def test_the_interval_covers_the_mean_of_many_and_is_none_of_one():
    draws = np.random.default_rng(3)
    inside = [low <= 1 <= high for low, high in (mean_interval(draws.normal(1, 2, 20), seed=n) for n in range(100))]
    assert 85 <= sum(inside) <= 100 and np.isnan(mean_interval(np.ones(1))).all()


@pytest.mark.parametrize("units", [2, 3, 4, 5, 6, 8])
def test_the_interval_of_few_covers_the_mean_nearly_as_often_as_it_says(units):
    draws = np.random.default_rng(units)
    found = [mean_interval(draws.normal(1, 2, units), seed=n) for n in range(400)]
    inside = sum(low <= 1 <= high for low, high in found)
    assert inside >= 0.93 * 400 if units < 6 else inside >= 0.84 * 400
