"""Baselines and scores against loops, least squares and planted filters."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.baselines import WienerBandPredictor, one_step_scores, stage_pairs


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


def test_wiener_finds_a_planted_filter():
    draws = np.random.default_rng(0)
    taps = np.array([0.5, 0.0, -0.8, 0.3, 0.2])
    first = draws.normal(size=(20, 1, 4, 200))
    increment = np.apply_along_axis(lambda x: np.convolve(x, taps, mode="same"), -1, first)
    levels = np.concatenate([first, first + increment], axis=1)
    fitted = WienerBandPredictor(lag=4, ridge=1e-10).fit(levels, channel_step=1)
    assert one_step_scores(fitted.predict(levels), levels)["skill_persistence"] > 0.999
    np.testing.assert_allclose(fitted.weights[1], np.pad(taps[::-1], 2), atol=1e-3)


def test_wiener_is_the_least_squares_solution(levels):
    fitted = WienerBandPredictor(lag=2, ridge=0.0).fit(levels, channel_step=1)
    design, wanted = [], []
    for window in levels:
        for channel in range(4):
            padded = np.pad(window[0, channel], 2)
            for t in range(40):
                design.append(padded[t : t + 5])
                wanted.append(window[1, channel, t] - window[0, channel, t])
    np.testing.assert_allclose(fitted.weights[1], np.linalg.lstsq(np.array(design), np.array(wanted))[0], atol=1e-10)


def test_wiener_has_nothing_to_say_on_independent_bands(levels):
    many = np.cumsum(np.random.default_rng(2).normal(size=(60, 3, 4, 40)), axis=1)
    skill = one_step_scores(WienerBandPredictor(lag=3).fit(many).predict(levels), levels)["skill_persistence"]
    assert abs(skill) < 0.03


def test_wiener_must_be_fitted_first(levels):
    with pytest.raises(ValueError, match="call fit"):
        WienerBandPredictor().predict(levels)
