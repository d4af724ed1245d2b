"""Scores of decoders over blocks of time, and Bayes with units that were not observed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nbkit.neuro.neurofm.decoders.bayes import BayesianPosition
from nbkit.neuro.neurofm.decoders.scores import difference, score_decoding
from tests.neuro.neurofm.spike_files import variance_explained


def shard(**facts):
    return SimpleNamespace(**({"name": "r", "classes": (), "circular": False, "behaviour_unit": "cm"} | facts))


def test_the_score_is_r2_of_all_bins_and_the_error_is_a_distance():
    draws = np.random.default_rng(0)
    truth = draws.normal(size=(20, 5, 2))
    truth[3, 2] = np.nan
    decoded = truth + 0.5 * draws.normal(size=truth.shape)
    score = score_decoding(shard(), "d", truth, np.nan_to_num(decoded))
    assert score.value == pytest.approx(variance_explained(truth, np.nan_to_num(decoded))) and len(score.missed) == 10
    assert score.unit == "cm" and score.error == pytest.approx(np.nanmedian(np.linalg.norm(decoded - truth, axis=2)))


def test_classes_are_told_by_the_sum_of_a_window():
    truth = np.repeat(np.eye(3)[[0, 1, 2, 0]][:, None], 4, axis=1)
    truth[:, 0] = np.nan
    decoded = np.nan_to_num(truth).copy()
    decoded[0] = np.eye(3)[1]
    decoded[3, 0] = 99 * np.eye(3)[2]  # a bin without a label says nothing
    score = score_decoding(shard(classes=("a", "b", "c")), "d", truth, decoded)
    assert score.is_classes and score.value == pytest.approx(0.75)


def test_a_behaviour_that_does_not_change_has_no_score():
    truth = np.full((6, 5, 2), 440.3) + 1e-11
    score = score_decoding(shard(), "d", truth, truth + 1.0)
    assert np.isnan(score.value) and "does not change" in difference(score, score).words


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(200):
        draws = np.random.default_rng(seed)
        truth = draws.normal(size=(40, 10, 1))
        common = draws.normal(size=(40, 1, 1))  # bins of a window are alike
        one, other = (truth + 0.5 * common + 0.4 * draws.normal(size=truth.shape) for _ in range(2))
        found = difference(
            score_decoding(shard(), "a", truth, one), score_decoding(shard(), "b", truth, other), draws=300
        )
        held += found.low <= 0 <= found.high
    assert 0.75 <= held / 200 <= 0.97, "a 90 % interval from ten blocks"


def test_bayes_finds_a_place_and_leaves_out_units_that_were_not_observed():
    draws = np.random.default_rng(0)
    place = np.stack([50 + 50 * np.sin(np.arange(6000) / 40), 30 + 30 * np.cos(np.arange(6000) / 55)], axis=1)
    centres = np.stack(np.meshgrid(np.linspace(0, 100, 6), np.linspace(0, 60, 4)), axis=-1).reshape(-1, 2)
    rate = 3 * np.exp(-((place[:, None] - centres) ** 2).sum(axis=2) / 300)
    counts = draws.poisson(rate)
    bayes = BayesianPosition(counts[:4000], place[:4000])
    whole = np.linalg.norm(bayes(counts[4000:]) - place[4000:], axis=1)
    assert np.median(whole) < 8
    observed = np.ones(counts[4000:].shape, bool)
    observed[:, ::2] = False
    half = np.linalg.norm(bayes(np.where(observed, counts[4000:], 0), observed) - place[4000:], axis=1)
    silence = np.linalg.norm(bayes(np.where(observed, counts[4000:], 0)) - place[4000:], axis=1)
    assert np.median(half) < np.median(silence), "half of the units unobserved is not half of them silent"
