"""Cleaning against nilearn's, constant vertices, and one clock for teacher and fMRI by a planted lag."""

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.bold import at_times, clean_bold, teacher_on_clock, varies


def test_cleaning_is_nilearns():
    from nilearn.signal import clean

    draws = np.random.default_rng(0)
    values = draws.normal(size=(120, 8)) + np.linspace(0, 3, 120)[:, None]
    confounds = draws.normal(size=(120, 3))
    theirs = clean(values, confounds=confounds, detrend=True, standardize="zscore_sample", standardize_confounds=True)
    ours = clean_bold(values, confounds=confounds).values
    assert min(np.corrcoef(ours[:, i], theirs[:, i])[0, 1] for i in range(8)) > 0.9999
    assert np.allclose(ours.mean(axis=0), 0, atol=1e-6) and np.allclose(ours.std(axis=0), 1, atol=1e-5)


@pytest.mark.filterwarnings("ignore:1 of")
def test_constant_outputs_are_zero_marked_and_said():
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[:, 2] = 1234.5
    with pytest.warns(UserWarning, match="1 of 4 outputs never change"):
        cleaned = clean_bold(values)
    assert cleaned.keep.tolist() == [True, True, False, True] and not cleaned.values[:, 2].any()
    assert np.isfinite(cleaned.values).all()
    assert not varies(np.full((5, 1), 0.1) + 1e-12 * np.arange(5)[:, None])[0]


def test_nan_and_too_many_regressors_are_refused():
    values = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match="22 regressors leave nothing of 20"):
        clean_bold(values, confounds=np.random.default_rng(1).normal(size=(20, 20)))
    values[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 60 BOLD values are NaN or infinite, in 1 outputs"):
        clean_bold(values)
    assert clean_bold(values, keep=np.array([True, False, True])).keep.tolist() == [True, False, True]


def test_interpolation_is_exact_on_lines_and_says_nothing_outside():
    values = np.stack([2 * np.arange(10.0), -np.arange(10.0)], axis=1)
    times = np.array([-0.1, 0.0, 1.49, 8.999, 9.0, 9.01])
    found = at_times(values, 1.0, times)
    assert np.allclose(found[1:5, 0], 2 * times[1:5]) and np.allclose(found[1:5, 1], -times[1:5])
    assert np.isnan(found[[0, 5]]).all()


@pytest.mark.parametrize("tr", [1.0, 1.4, 1.49, 2.0])
def test_a_teacher_that_took_5_s_out_meets_fmri_on_one_clock(tr):
    def bold(t):
        return np.stack([np.sin(2 * np.pi * t / 40), np.cos(2 * np.pi * t / 55)], axis=1)

    teacher = bold(np.arange(200) + 5.0)  # row t is BOLD at t + 5
    volumes = np.arange(int(200 / tr)) * tr
    found, known = teacher_on_clock(teacher, tr, len(volumes))
    assert not known[volumes < 5 - 1e-6].any() and known[(volumes >= 5) & (volumes < 200)].all()
    assert np.abs(found[known] - bold(volumes[known])).max() < 0.01
    assert not found[~known].any()
    lags = np.arange(-8, 9)
    truth = bold(volumes)[:, 0]
    r = [np.corrcoef(np.roll(found[:, 0], lag)[20:-20], truth[20:-20])[0, 1] for lag in lags]
    assert lags[int(np.argmax(r))] == 0
    late, _ = teacher_on_clock(teacher, tr, len(volumes), offset_s=0.0)  # forgetting the offset is seen
    r = [np.corrcoef(np.roll(late[:, 0], lag)[20:-20], truth[20:-20])[0, 1] for lag in lags]
    assert lags[int(np.argmax(r))] == pytest.approx(5 / tr, abs=0.6)
