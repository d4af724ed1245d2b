"""Scores of classes against scikit-learn's, and intervals against scores of samples drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    roc_auc_score,
)

from nbkit.neuro.training.scores.class_scores import class_intervals, class_scores


def drawn(seed: int, classes: int, windows: int = 60, only: int | None = None):
    draws = np.random.default_rng(seed)
    target = draws.integers(only or classes, size=windows)
    score = draws.normal(size=(windows, classes)).round(1)  # rounded: some are equal
    score[np.arange(windows), target] += draws.uniform(0, 2)
    odds = np.exp(score)
    return target, odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_scikit_learns(seed, classes):
    target, chances = drawn(seed, classes)
    found, guessed = class_scores(target, chances), chances.argmax(1)
    auc = roc_auc_score(target, chances[:, 1]) if classes == 2 else roc_auc_score(target, chances, multi_class="ovr")
    assert found == pytest.approx({
        "balanced_accuracy": balanced_accuracy_score(target, guessed), "auc": auc,
        "kappa": cohen_kappa_score(target, guessed), "weighted_f1": f1_score(target, guessed, average="weighted"),
        "auprc": np.mean([average_precision_score(target == c, chances[:, c]) for c in range(classes)]),
        "accuracy": accuracy_score(target, guessed),
    })  # fmt: skip


def test_classes_that_do_not_occur_have_no_score():
    target, chances = drawn(0, 4, only=3)
    found = class_scores(target, chances)
    each = [roc_auc_score(target == number, chances[:, number]) for number in range(3)]
    assert found["auc"] == pytest.approx(np.mean(each))
    recall = [(chances.argmax(1)[target == number] == number).mean() for number in range(3)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert np.isnan(class_scores(np.zeros(60), chances)["auc"])
    with pytest.raises(ValueError, match="finite row"):
        class_scores(target, np.full_like(chances, np.nan))


def test_intervals_are_of_scores_of_drawn_subjects():
    target, chances = drawn(3, 3, windows=90)
    subjects = np.array([f"s{number % 6}" for number in range(90)])
    names, of = np.unique(subjects, return_inverse=True)
    every = []
    for pick in np.random.default_rng(5).integers(6, size=(80, 6)):
        rows = np.concatenate([np.flatnonzero(of == subject) for subject in pick])
        every.append(class_scores(target[rows], chances[rows]))
    found = class_intervals(target, chances, subjects, draws=80, seed=5)
    for name in every[0]:
        ends = np.quantile([scores[name] for scores in every], [0.025, 0.975])
        assert found[name] == pytest.approx(tuple(ends)), name
    assert class_intervals(target, chances, ["one"] * 90) == {}


def test_windows_of_two_models_are_never_compared():
    target, chances = drawn(1, 2, windows=80)
    models, subjects = np.repeat([1, 2], 40), np.array([f"s{number // 10}" for number in range(80)])
    chances = np.stack([1 - np.round(chances[:, 1] * 64) / 64, np.round(chances[:, 1] * 64) / 64], 1)  # exact numbers
    scale = np.where(models == 2, 0.25, 1.0)  # another scale, the same order
    shifted = np.stack([1 - chances[:, 1] * scale, chances[:, 1] * scale], 1)
    apart, together = class_scores(target, chances, models), class_scores(target, chances)
    for name in ("auc", "auprc"):
        assert class_scores(target, shifted, models)[name] == pytest.approx(apart[name])
        assert class_scores(target, shifted)[name] != pytest.approx(together[name])
    each = [class_scores(target[models == m], chances[models == m]) for m in (1, 2)]
    assert apart["auprc"] == pytest.approx(np.mean([scores["auprc"] for scores in each]))
    ends = class_intervals(target, chances, subjects, models, draws=200)
    other = class_intervals(target, shifted, subjects, models, draws=200)
    assert ends["auc"] == pytest.approx(other["auc"]) and ends["auc"][0] < apart["auc"] < ends["auc"][1]
