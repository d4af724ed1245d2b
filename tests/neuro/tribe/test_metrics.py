"""Correlation against numpy's, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.tribe.metrics import (
    PearsonSums,
    ceiling_fraction,
    mean_r,
    mean_r_by_group,
    noise_ceiling,
    pearson_over_time,
)


def test_r_is_numpys_vertex_by_vertex_whatever_the_offset():
    draws = np.random.default_rng(0)
    true = draws.normal(size=(50, 7)) + 1e5 * np.arange(7)
    predicted = 0.3 * true + draws.normal(size=(50, 7)) - 40
    oracle = [np.corrcoef(predicted[:, v], true[:, v])[0, 1] for v in range(7)]
    np.testing.assert_allclose(pearson_over_time(predicted, true), oracle, atol=1e-7)


def test_it_is_centred_over_time_and_not_over_vertices():
    pattern = np.arange(6.0)  # a map that never changes is a perfect prediction over vertices, and none over time
    draws = np.random.default_rng(1)
    true = pattern * 10 + draws.normal(size=(40, 6))
    predicted = pattern * 10 + draws.normal(size=(40, 6))
    assert abs(mean_r(pearson_over_time(predicted, true))) < 0.2


def test_sums_of_batches_are_the_whole_and_skip_what_is_not_valid():
    draws = np.random.default_rng(2)
    x, y = torch.from_numpy(draws.normal(size=(2, 4, 10, 3)))
    valid = torch.from_numpy(draws.random((4, 10)) > 0.3)
    sums = PearsonSums(3)
    for part in range(4):
        sums.add(x[part : part + 1], y[part : part + 1], valid[part : part + 1])
    np.testing.assert_allclose(sums.r(), pearson_over_time(x[valid].numpy(), y[valid].numpy()), atol=1e-12)


def test_constant_vertices_have_no_r():
    draws = np.random.default_rng(3)
    true, predicted = draws.normal(size=(2, 30, 4))
    true[:, 1], predicted[:, 2] = 3.3, -1.0
    r = pearson_over_time(predicted, true)
    assert np.isnan(r[[1, 2]]).all() and np.isfinite(r[[0, 3]]).all()
    assert mean_r(r) == pytest.approx(r[[0, 3]].mean()) and np.isnan(mean_r(r[[1, 2]]))
    true[:, 0] = 1e3 + 0.1 + np.where(np.arange(30) % 2, 1e-13, 0)  # a constant but for its last digit
    assert np.isnan(pearson_over_time(predicted, true)[0])
    small = pearson_over_time(predicted[:, 3:] * 1e-6, true[:, 3:] * 1e-6)
    assert small.shape == (1,) and small[0] == pytest.approx(r[3])


def test_groups_and_shapes():
    r = np.array([0.1, 0.3, np.nan, 0.5])
    by_group = mean_r_by_group(r, np.array([0, 0, 1, -1]), ["Vis", "Default"])
    assert by_group["Vis"] == pytest.approx(0.2) and np.isnan(by_group["Default"])
    with pytest.raises(ValueError, match="both must be"):
        pearson_over_time(np.zeros((3, 2)), np.zeros((2, 3)))


def test_the_noise_ceiling_is_what_the_truth_reaches():
    draws = np.random.default_rng(4)
    truth = draws.normal(size=(4000, 5))
    repeats = truth + draws.normal(size=(3, 4000, 5)) * 0.75
    ceiling = noise_ceiling(repeats)
    reached = pearson_over_time(truth, repeats[0])
    np.testing.assert_allclose(ceiling, reached, atol=0.02)
    np.testing.assert_allclose(ceiling, 0.8, atol=0.02)
    assert ceiling_fraction(reached, ceiling) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(noise_ceiling(draws.normal(size=(2, 100, 1)) * [[[1.0]], [[-1.0]]])).sum() in (0, 1)
    with pytest.raises(ValueError, match="at least twice"):
        noise_ceiling(repeats[:1])


def test_a_response_that_never_changes_is_seen():
    sums = PearsonSums(2)
    assert not sums.truth_moves()
    sums.add(torch.randn(1, 4, 2), torch.full((1, 4, 2), 1e3))
    assert not sums.truth_moves() and sums.steps == 4
    sums.add(torch.randn(1, 4, 2), 1e3 + torch.randn(1, 4, 2))
    assert sums.truth_moves()
