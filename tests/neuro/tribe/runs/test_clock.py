"""One clock: where features, teacher and fMRI meet."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.bold import teacher_on_clock
from nbkit.neuro.tribe.runs.clock import features_on_grid, grid_steps


def test_features_are_means_over_the_step():
    ramp = np.arange(40.0)[:, None]  # feature i holds from i / 2 to (i + 1) / 2 s
    on_grid = features_on_grid(ramp, 2.0, 1.5, 12)[:, 0]
    # around 3 s: 2.25 to 3.75 s, half of feature 4, features 5 and 6, half of feature 7
    assert on_grid[2] == pytest.approx((0.5 * 4 + 5 + 6 + 0.5 * 7) / 3)
    assert on_grid[0] == pytest.approx((0 + 0.5 * 1) / 1.5)  # nothing is before the start
    np.testing.assert_allclose(features_on_grid(np.ones((40, 3)), 2.0, 1.49, 14), 1.0, atol=1e-5)


def test_their_own_grid_keeps_them():
    values = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    np.testing.assert_array_equal(features_on_grid(values, 2.0, 0.5, 10), values)


def test_the_teacher_is_put_back_by_its_offset():
    seconds = np.arange(60.0)[:, None]  # row t says t; it is BOLD at t + 5
    on_grid, valid = teacher_on_clock(seconds, 1.49, 45)
    times = np.arange(45) * 1.49
    np.testing.assert_array_equal(valid, (times >= 5) & (times <= 64))
    np.testing.assert_allclose(on_grid[valid, 0], times[valid] - 5, atol=1e-4)
    assert (on_grid[~valid] == 0).all()
    later, now = teacher_on_clock(seconds[20:], 1.49, 45, first_row=20)
    np.testing.assert_allclose(later[now], on_grid[now], atol=1e-4)
    assert now.sum() < valid.sum()


def test_teacher_and_fmri_of_one_brain_agree_on_the_clock(world):
    """The planted teacher and a subject without noise and peculiarity are one response: lag 0 fits best, and well."""
    from dataclasses import replace

    from nbkit.neuro.tribe.metrics import mean_r, pearson_over_time
    from nbkit.neuro.tribe.runs.runs import planted_runs

    alike = replace(world, subject_spread=0.0, ceiling=0.999, duration_s=400.0)  # long: a run's trend is taken out
    (run,) = planted_runs(alike, [0], subjects=[0])
    fits = {}
    for lag in (-2, -1, 0, 1, 2):
        moved = np.roll(run.teacher, lag, axis=0)
        inside = np.roll(run.teacher_valid, lag) & (np.arange(len(run)) > 5)
        inside[:2] = inside[-2:] = False
        fits[lag] = mean_r(pearson_over_time(moved, run.bold, inside))
    assert max(fits, key=fits.get) == 0 and fits[0] > 0.97


def test_whole_steps():
    assert (grid_steps(120, 1.49), grid_steps(149, 1.49), grid_steps(0.3, 1.0)) == (80, 100, 1)
