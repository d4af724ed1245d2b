"""Pooled scores beside rivals: sums against the scores of all windows, the test against SciPy's, the covered share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import balanced_accuracy_score

from nbkit.neuro.challenge.metrics import nrmse, nrmse_interval
from nbkit.neuro.training.scores.pooled import (
    balanced_accuracy_of,
    beside_pooled,
    error_sums,
    exchange_p,
    nrmse_of,
    pooled_interval,
    recall_sums,
)


def people(seed: int, count: int, each: int = 12, level: float = 5.0):
    draws = np.random.default_rng(seed)
    of = np.repeat(np.arange(count), each)
    target = level + draws.normal(size=count)[of] + draws.normal(size=len(of))
    return draws, of, target


@pytest.mark.parametrize("seed", range(4))
def test_the_sums_give_the_scores_of_all_windows(seed):
    draws, of, target = people(seed, 5, level=1e3)
    predicted = target + draws.normal(size=len(of))
    assert nrmse_of(error_sums(target, predicted, of).sum(0)) == pytest.approx(nrmse(target, predicted))
    classes, guess = draws.integers(3, size=len(of)), draws.integers(3, size=len(of))
    sums = recall_sums(classes, guess, of, 4)  # a class that does not occur
    assert balanced_accuracy_of(sums.sum(0)) == pytest.approx(balanced_accuracy_score(classes, guess))


def test_the_interval_of_many_is_near_the_bootstraps_and_a_difference_is_paired():
    draws, of, target = people(0, 60)
    predicted = target + draws.normal(size=len(of))
    sums, names = error_sums(target, predicted, of), [str(n) for n in of]
    assert pooled_interval(nrmse_of, sums) == pytest.approx(nrmse_interval(target, predicted, names), abs=0.02)
    assert pooled_interval(nrmse_of, sums, sums) == (0.0, 0.0)
    assert np.isnan(pooled_interval(nrmse_of, sums[:1])).all()


@pytest.mark.parametrize("count", [3, 4, 5, 8, 20])
def test_the_interval_covers_the_score_nearly_as_often_as_it_says(count):
    inside = 0
    for seed in range(400):
        draws, of, target = people(seed, count, each=40)
        noise = (1 + 0.5 * draws.normal(size=count))[of] * draws.normal(size=len(of))
        low, high = pooled_interval(nrmse_of, error_sums(target, target + noise, of))
        inside += low <= np.sqrt(1.25 / 2) <= high  # noise of variance 1.25 beside targets of variance 2
    assert 0.9 <= inside / 400 <= 0.99


def test_the_p_value_is_scipys_of_exchanged_people():
    draws, of, target = people(3, 7)
    ours, theirs = target + draws.normal(size=len(of)), target + 1.15 * draws.normal(size=len(of))
    sums = [error_sums(target, one, of) for one in (ours, theirs)]

    def gap(first, second):
        pick = [np.stack([sums[int(k)][n] for n, k in enumerate(order)]).sum(0) for order in (first, second)]
        return abs(nrmse_of(pick[0]) - nrmse_of(pick[1]))

    sides = (np.zeros(7), np.ones(7))
    scipys = permutation_test(sides, gap, permutation_type="samples", n_resamples=1000, alternative="greater")
    assert exchange_p(nrmse_of, *sums) == pytest.approx(scipys.pvalue, abs=1e-9)


def test_no_difference_is_found_as_rarely_as_it_should_be():
    found = []
    for seed in range(200):
        draws, of, target = people(seed, 9)
        sums = [error_sums(target, target + draws.normal(size=len(of)), of) for _ in range(2)]
        found.append(exchange_p(nrmse_of, *sums) <= 0.05)
    assert np.mean(found) <= 0.09


def test_a_planted_difference_is_told_beside_its_rivals():
    draws, of, target = people(2, 16)
    sums = {
        name: error_sums(target, target + width * draws.normal(size=len(of)), of)
        for name, width in (("ours", 0.5), ("worse", 1.5), ("alike", 0.52))
    }
    fields = beside_pooled(nrmse_of, sums["ours"], {name: sums[name] for name in ("worse", "alike")})
    worse, alike = fields["rivals"]
    assert worse["difference_high"] < 0 and worse["p"] < 0.01 and alike["p"] > 0.05
    assert fields["low"] < nrmse_of(sums["ours"].sum(0)) < fields["high"]
