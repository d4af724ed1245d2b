"""Intervals, paired tests and chance over groups: against brute force, planted differences and none."""

from __future__ import annotations

import itertools

import numpy as np
import pandas
import pytest

from nbkit.ground.stand_in import is_untrained
from nbkit.neuro.decoding.judging.comparison import weights_in_words
from nbkit.neuro.decoding.judging.predictions import Predictions
from nbkit.neuro.decoding.judging.statistics import (
    above_chance,
    difference,
    interval,
    verdict,
)
from nbkit.neuro.training.scores.class_scores import subject_draws


def predictions(skill: float, groups: int = 20, windows: int = 12, seed: int = 0, kind: str = "classification"):
    """Return predictions in which each group has an ability of its own around ``skill``."""
    rng = np.random.default_rng(seed)
    target = np.tile(np.arange(windows) % 2, groups)
    of = np.repeat(np.arange(groups), windows)
    ability = (skill + rng.normal(0, 0.4, groups))[of]
    score = (2 * target - 1) * ability + rng.normal(size=len(target))
    names = np.array([f"s{group:02d}" for group in of])
    if kind == "regression":
        value = score + 0.1 * rng.normal(size=len(target))
        return Predictions(kind, target + 0.2 * value, target.astype(float), names, of, np.arange(len(target)))
    chance = 1 / (1 + np.exp(-score))
    return Predictions(kind, np.stack([1 - chance, chance], 1), target, names, of, np.arange(len(target)))


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("score", ["", "auc_or_r"])
def test_an_interval_is_that_of_drawn_groups(kind, score):
    whole = predictions(0.8, groups=8, kind=kind)
    score = {"classification": "auc", "regression": "r"}[kind] if score else ""
    found, drawn = interval(whole, score, draws=60), []
    for times in subject_draws(8, 60, 2025).astype(int):
        rows = np.concatenate([np.repeat(np.flatnonzero(whole.group_numbers == g), n) for g, n in enumerate(times)])
        sample = [part[rows] for part in (whole.predicted, whole.target, whole.groups, whole.folds)]
        drawn.append(Predictions(kind, *sample, np.arange(len(rows))).score(score))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.low < found.value < found.high and found.groups == 8
    alone = interval(predictions(0.8, groups=1, kind=kind))
    assert np.isnan(alone.low) and alone.groups == 1


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_p_value_is_that_of_all_exchanges(kind):
    one, other = predictions(0.9, groups=6, seed=1, kind=kind), predictions(0.2, groups=6, seed=2, kind=kind)
    found = difference(one, other, draws=50)
    observed, hits = one.score() - other.score(), 0
    for swap in itertools.product((False, True), repeat=6):
        swapped = np.array(swap)[one.group_numbers]
        mixed = [
            Predictions(
                kind, np.where(swapped.reshape(-1, *[1] * (a.predicted.ndim - 1)), b.predicted, a.predicted), a.target,
                a.groups, a.folds, a.windows,
            ).score()
            for a, b in ((one, other), (other, one))
        ]  # fmt: skip
        hits += abs(mixed[0] - mixed[1]) >= abs(observed) - 1e-12
    assert found.p == pytest.approx(hits / 64) and found.interval.value == pytest.approx(observed)


def test_a_planted_difference_is_found_and_its_absence_is_said():
    strong, weak = predictions(1.2, seed=3), predictions(0.1, seed=4)
    found = difference(strong, weak)
    assert found.p < 0.01 and found.interval.low > 0
    assert verdict(found, found.p, "band powers") == "above band powers"
    assert verdict(difference(weak, strong), found.p, "band powers") == "below band powers"
    alike = difference(predictions(0.5, seed=5), predictions(0.5, seed=6))
    assert alike.p > 0.05 and verdict(alike, alike.p, "x") == "not distinguishable from x"
    few = difference(predictions(2, groups=4, seed=7), predictions(0, groups=4, seed=8))
    assert verdict(few, few.p, "x") == "4 groups are too few to tell from x"


def test_the_test_is_exact_where_nothing_differs():
    p = [difference(predictions(0.5, 14, seed=s), predictions(0.5, 14, seed=900 + s), draws=200).p for s in range(60)]
    assert 0 <= np.mean(np.array(p) < 0.1) < 0.25 and 0.3 < np.mean(p) < 0.7


def test_chance_is_found_as_chance():
    p, reached = above_chance(predictions(1.0))
    assert p < 0.01 and 0.5 < reached < 0.7
    rates = [above_chance(predictions(0.0, seed=seed), draws=200)[0] < 0.05 for seed in range(40)]
    assert np.mean(rates) < 0.2
    # each group has one class: the classes of people are shuffled, not of windows
    p = predictions(1.0, groups=24)
    whole = np.repeat(np.arange(24) % 2, 12)
    right = np.where((p.predicted.argmax(1) == p.target)[:, None], np.eye(2)[whole], np.eye(2)[1 - whole])
    assert above_chance(Predictions(p.kind, right, whole, p.groups, p.folds, p.windows))[0] < 0.01
    assert above_chance(predictions(0.6, kind="regression"))[0] < 0.01


def test_decoders_of_other_windows_are_not_compared():
    one = predictions(0.5)
    with pytest.raises(ValueError, match="share 0 windows"):
        difference(one, Predictions(one.kind, one.predicted, one.target, one.groups, one.folds, one.windows + 1000))


@pytest.mark.parametrize(
    "weights, said, untrained",
    [
        (["random, seed 1", "random, seed 1"], "random, seed 1", True),
        (["random, seed 1", "", "random, seed 2"], "random: a: random, seed 1; c: random, seed 2", True),
        (["random, seed 1", "trained here"], "a: random, seed 1; b: trained here", False),
        (["none: a linear model", "random, seed 1"], "random, seed 1", True),
        (["", ""], "", False),
    ],
)
def test_a_table_is_called_untrained_only_if_all_of_its_models_are(weights, said, untrained):
    table = pandas.DataFrame({"model": list("abc")[: len(weights)], "weights": weights})
    assert weights_in_words(table) == said and is_untrained(said) is untrained
