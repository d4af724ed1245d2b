"""Banded ridge regression finds what was planted, ignores what is noise, and agrees with an exact solution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from nbkit.neuro.signals.imaging.hrf import convolve_hrf
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.scoring.banded import Design, banded_predictor, lagged, one_a_subject, time_blocks
from nbkit.neuro.tribe.scoring.settings import FrameSettings

SETTINGS = replace(FrameSettings.smoke(), search=8, inner_blocks=4)


def planted(seed, steps=160, subject=0, name=None, flip=1.0):
    """A run in which the word rate drives output 0, sound output 1, and nothing output 2; output 3 is dead."""
    draws = np.random.default_rng(seed)
    features = {
        "text": draws.normal(size=(steps, 5)),
        "audio": draws.normal(size=(steps, 3)),
        "video": np.zeros((steps, 4)),
    }
    low = draws.poisson(3, size=(steps, 1)).astype(float)
    drive = np.stack([low[:, 0] - 3, features["audio"][:, 0], np.zeros(steps), np.zeros(steps)], axis=1)
    bold = flip * convolve_hrf(drive, 1.5) / 0.5 + draws.normal(size=(steps, 4)) * [1, 1, 1, 0]
    return StimulusRun(
        name or f"s{seed}", 1.5, features, np.array([True, True, False]), bold=bold.astype(np.float32), subject=subject,
        low=low, low_names=("word rate",),
    )  # fmt: skip


def r_of(said, run):
    return np.array([np.corrcoef(said[:, k], run.bold[:, k])[0, 1] for k in range(3)])


def test_each_band_gets_the_weight_it_deserves():
    """With every band in the model, r is near that of the right band alone, and noise stays near 0."""
    runs, test = [planted(s) for s in range(4)], planted(9, steps=400)
    r = r_of(banded_predictor(runs, ("text", "audio", "video", "low"), SETTINGS)(test), test)
    only = r_of(banded_predictor(runs, ("low",), SETTINGS)(test), test)
    assert r[0] > 0.5 and r[1] > 0.4 and abs(r[2]) < 0.2
    assert r[0] > only[0] - 0.05 and abs(only[1]) < 0.2


def test_one_band_is_the_exact_solution_of_ridge_regression():
    settings = replace(SETTINGS, least_alpha=0.0, most_alpha=0.0)
    runs, test = [planted(0), planted(1)], planted(2)
    said = banded_predictor(runs, ("low",), settings)(test)
    lags = Design(runs, ("low",), settings).lags
    x = np.concatenate([lagged(run.low, lags) for run in runs])
    y = np.concatenate([run.bold for run in runs]).astype(float)
    mean, spread = x.mean(0), x.std(0) * np.sqrt(x.shape[1])
    exact = Ridge(1.0, fit_intercept=False).fit((x - mean) / spread, (y - y.mean(0)) / np.maximum(y.std(0), 1e-9))
    wanted = exact.predict((lagged(test.low, lags) - mean) / spread) * y.std(0) + y.mean(0)
    np.testing.assert_allclose(said, wanted, atol=1e-4)


def test_a_dead_output_and_a_constant_column_do_no_harm():
    runs = [planted(s) for s in range(2)]
    flat = [replace(run, low=np.concatenate([run.low, np.ones_like(run.low)], 1)) for run in runs]
    said = banded_predictor(flat, ("low",), SETTINGS)(flat[0])
    assert np.isfinite(said).all() and np.ptp(said[:, 3]) == 0


def test_steps_that_do_not_count_have_no_part_in_the_fit():
    run = planted(0, 300)
    wrong = run.bold.copy()
    wrong[:80] = 50.0
    valid = np.arange(300) >= 80
    said = banded_predictor([replace(run, bold=wrong, bold_valid=valid)], ("low",), SETTINGS)(planted(5))
    again = banded_predictor([replace(run, bold_valid=valid)], ("low",), SETTINGS)(planted(5))
    np.testing.assert_array_equal(said, again)


def test_each_subject_has_a_model_of_its_own():
    runs = [planted(s, subject=0) for s in range(3)] + [planted(s + 10, subject=1, flip=-1.0) for s in range(3)]
    fit = one_a_subject(lambda own: banded_predictor(own, ("low",), SETTINGS), runs)
    first, second = planted(20, 300, 0), planted(20, 300, 1, flip=-1.0)
    assert r_of(fit(first), first)[0] > 0.5 and r_of(fit(second), second)[0] > 0.5
    with pytest.raises(ValueError, match=r"Subject 7 has no training run"):
        fit(planted(1, subject=7))


def test_blocks_of_time_never_share_a_run_and_what_is_wrong_is_named():
    runs = [planted(s, 20, name=f"n{s // 2}", subject=s % 2) for s in range(8)]
    blocks = time_blocks(runs, [run.scored for run in runs], 4)
    assert [set(blocks[20 * i : 20 * i + 20]) for i in range(8)] == [{0}, {0}, {1}, {1}, {2}, {2}, {3}, {3}]
    assert time_blocks(runs[:1], [runs[0].scored], 4).tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    with pytest.raises(ValueError, match="There is no band smell"):
        banded_predictor(runs, ("smell",), SETTINGS)
    with pytest.raises(ValueError, match="No run has one of the bands teacher"):
        banded_predictor(runs, ("teacher",), SETTINGS)
