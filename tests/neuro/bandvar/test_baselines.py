"""Scores against loops, and of predictions whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.baselines import one_step_scores, stage_pairs


@pytest.fixture
def levels():
    return np.cumsum(np.random.default_rng(0).normal(size=(6, 3, 4, 40)), axis=1)


def test_every_stage_follows_the_true_one_and_the_first_follows_zeros(levels):
    inputs, targets = stage_pairs(levels)
    assert not inputs[:, 0].any()
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    np.testing.assert_array_equal(targets, levels)


def test_scores_are_those_of_loops(levels):
    prediction = levels + np.random.default_rng(1).normal(size=levels.shape) * 0.3
    scores = one_step_scores(prediction, levels)
    mse, persistence, zero = [], [], []
    for stage in (1, 2):
        mse.append(np.mean([(prediction[w, stage] - levels[w, stage]) ** 2 for w in range(6)]))
        persistence.append(np.mean([(levels[w, stage - 1] - levels[w, stage]) ** 2 for w in range(6)]))
        zero.append(np.mean([levels[w, stage] ** 2 for w in range(6)]))
    assert scores["mse"] == pytest.approx(np.mean(mse))
    assert scores["skill_persistence"] == pytest.approx(1 - np.mean(mse) / np.mean(persistence))
    assert scores["skill_zero"] == pytest.approx(1 - np.mean(mse) / np.mean(zero))
    assert scores["by_stage"][1]["skill_persistence"] == pytest.approx(1 - mse[0] / persistence[0])
    variance = np.mean([np.var(levels[:, s] - levels[:, s - 1]) for s in (1, 2)])
    assert scores["increment_r2"] == pytest.approx(1 - np.mean(mse) / variance)


def test_persistence_zero_and_truth_score_as_they_must(levels):
    inputs, targets = stage_pairs(levels)
    assert one_step_scores(inputs, levels)["skill_persistence"] == pytest.approx(0.0)
    assert one_step_scores(np.zeros_like(levels), levels)["skill_zero"] == pytest.approx(0.0)
    assert one_step_scores(targets, levels)["skill_persistence"] == 1.0
