"""Scores and their trivial guesses, against scikit-learn's and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.metrics import f1_score, r2_score, root_mean_squared_error

from nbkit.neuro.decoding.judging.scores import MAIN, TRIVIAL_IS, UNITS, score_fold, score_names

RNG = np.random.default_rng(0)


def test_classes_are_scored_beside_chance():
    target = np.array([0, 0, 0, 1])
    sure = np.eye(2)[target]
    found = score_fold("classification", target, sure, target)
    ones = {name: 1.0 for name in score_names("classification")}
    assert {name: found[name] for name in ones} == pytest.approx(ones)
    trivial = {"balanced_accuracy": 0.5, "auc": 0.5, "kappa": 0.0, "auprc": 0.5, "accuracy": 0.75}
    assert {name: found[f"{name}_trivial"] for name in trivial} == trivial
    assert found["weighted_f1_trivial"] == pytest.approx(f1_score(target, [0] * 4, average="weighted"))
    always = np.tile([0.9, 0.1], (4, 1))
    found = score_fold("classification", target, always, target)
    assert found["balanced_accuracy"] == 0.5 and found["auc"] == 0.5  # accuracy would be 0.75
    three = score_fold("classification", np.array([0, 1, 2]), np.eye(3), target)
    assert three["balanced_accuracy_trivial"] == pytest.approx(1 / 3) and three["auc"] == 1.0


def test_values_are_scored_beside_the_training_sides_mean():
    train, target = RNG.normal(size=50), RNG.normal(size=20) + 1
    predicted = target + RNG.normal(size=20) * 0.1
    found = score_fold("regression", target, predicted, train)
    dummy = DummyRegressor().fit(np.zeros((50, 1)), train).predict(np.zeros((20, 1)))
    assert found["r2"] == pytest.approx(r2_score(target, predicted))
    assert found["r2_trivial"] == pytest.approx(r2_score(target, dummy)) and found["r2_trivial"] < 0
    assert found["rmse_trivial"] == pytest.approx(root_mean_squared_error(target, dummy))
    assert score_fold("regression", target, dummy, train)["r"] == 0.0


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_every_score_has_its_unit_and_its_trivial_guess(kind):
    predicted = np.full((4, 2), 0.5) if kind == "classification" else np.arange(4.0)
    found = score_fold(kind, np.array([0, 1, 0, 1]), predicted, np.array([0, 1]))
    assert set(found) == {n for name in score_names(kind) for n in (name, f"{name}_trivial")}
    assert score_names(kind)[0] == MAIN[kind]
    assert set(score_names(kind)) <= set(UNITS) & set(TRIVIAL_IS)


def test_predictions_that_are_none_are_refused():
    with pytest.raises(ValueError, match="1 of their values not finite"):
        score_fold("regression", np.zeros(3), np.array([0, np.nan, 1]), np.zeros(3))
    with pytest.raises(ValueError, match="2 predictions for 3 windows"):
        score_fold("regression", np.zeros(3), np.zeros(2), np.zeros(3))
