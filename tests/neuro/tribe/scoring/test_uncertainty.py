"""Intervals, nulls and ceilings against brute force, and the table of a planted difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nbkit.neuro.tribe.scoring.frame import RIDGE, STACK, STUDENT, WORD_RATE, join_folds
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.scoring.table import ALL, frame_rows, region_lines, score_table, table_lines
from nbkit.neuro.tribe.scoring.uncertainty import Encoding, discovered, interval_over, shift_p


def made(people=6, steps=120, outputs=5, gain=0.6, seed=0, runs=2):
    """Folds in which the student has the signal, the ridge half of it, and the word rate a fifth."""
    draws = np.random.default_rng(seed)
    folds = []
    for fold in range(runs):
        signal = draws.normal(size=(steps, outputs))
        truth = gain * signal[None] + draws.normal(size=(people, steps, outputs))
        truth[:, :, -1] = draws.normal(size=(people, steps))  # nothing drives the last output
        z = lambda x: (x - x.mean(0)) / x.std(0)  # noqa: E731
        noise = draws.normal(size=(3, steps, outputs))
        said = {STUDENT: signal, RIDGE: signal + noise[0], WORD_RATE: 0.5 * signal + noise[1]}
        said[STACK] = signal + 0.3 * noise[2]
        arrays = {
            f"model:{name}": np.concatenate([z(value)] * people).astype(np.float32) for name, value in said.items()
        }
        folds.append({
            **arrays, "truth": np.concatenate([z(one) for one in truth]).astype(np.float32),
            "run": np.repeat(np.arange(people), steps), "names": np.array([f"b{fold}"] * people),
            "subjects": np.arange(people), "keep": np.ones((people, outputs), bool),
        })  # fmt: skip
    return Encoding(join_folds(folds), 2.0)


def test_r_is_that_of_numpy_over_all_runs_of_a_person():
    encoding = made()
    rows = encoding.rows(3)
    assert len(rows) == 240 and len(set(encoding.arrays["run"][rows])) == 2
    said, true = encoding.arrays[f"model:{RIDGE}"][rows], encoding.arrays["truth"][rows]
    wanted = [np.corrcoef(said[:, k], true[:, k])[0, 1] for k in range(5)]
    np.testing.assert_allclose(encoding.r(RIDGE)[3], wanted, atol=1e-6)


def test_the_null_is_every_shift_and_has_no_short_one():
    encoding = made(people=3, steps=30)
    null = encoding.null(STUDENT, 10.0)
    assert len(null) == 60 - 2 * 5 + 1
    wanted = []
    for person in range(3):
        rows = encoding.rows(person)
        said, true = encoding.arrays[f"model:{STUDENT}"][rows], encoding.arrays["truth"][rows]
        wanted.append([[np.corrcoef(np.roll(said[:, k], s), true[:, k])[0, 1] for k in range(5)] for s in range(5, 56)])
    np.testing.assert_allclose(null, np.mean(wanted, 0), atol=1e-5)
    with pytest.raises(ValueError, match="60 held-out steps allow no shift of 100 s"):
        encoding.null(STUDENT, 100.0)


def test_the_ceiling_is_the_correlation_with_the_mean_of_the_others():
    encoding = made(people=4)
    truth = np.stack([encoding.arrays["truth"][encoding.rows(p)] for p in range(4)])
    wanted = np.corrcoef(truth[1][:, 0], truth[[0, 2, 3]].mean(0)[:, 0])[0, 1]
    assert encoding.ceiling()[1, 0] == pytest.approx(wanted, abs=1e-3)
    assert made(people=2).ceiling() is None


def test_the_interval_is_students_and_holds_the_truth_as_often_as_it_says():
    values = np.array([0.1, 0.2, 0.4, 0.1])
    found, test = interval_over(values), stats.ttest_1samp(values, 0)
    low, high = test.confidence_interval(0.95)
    assert (found.low, found.high, found.t, found.n) == pytest.approx((low, high, test.statistic, 4))
    assert np.isnan(interval_over([0.3]).low)
    draws = np.random.default_rng(1).normal(0.2, 1, size=(500, 8))
    held = [one.low < 0.2 < one.high for one in map(interval_over, draws)]
    assert 0.92 < np.mean(held) < 0.98


def test_p_and_discoveries_keep_their_rate_under_no_relation():
    draws = np.random.default_rng(2)
    null = draws.normal(size=(199, 400))
    p = shift_p(draws.normal(size=400), null)
    assert 0.02 < (p <= 0.05).mean() < 0.09 and not discovered(p, 0.05).any()
    p[:40] = shift_p(np.full(40, 9.0), null[:, :40])
    assert discovered(p, 0.05)[:40].all() and discovered(np.array([np.nan, 0.001]))[0] == np.False_


def test_the_table_shows_the_planted_order_and_who_is_above_chance():
    encoding = made(people=8)
    masks = {"front": np.array([1, 1, 0, 0, 0], bool), "back": np.array([0, 0, 1, 1, 0], bool)}
    table = score_table(encoding, masks, FrameSettings.smoke())
    r = {name: row.mean.mean for name, row in table.rows.items()}
    assert r[STUDENT] > r[RIDGE] > r[WORD_RATE] > 0.05 and table.reference == WORD_RATE
    assert table.rows[STUDENT].against.low > 0 and table.rows[STUDENT].p < 0.02
    assert set(table.rows[STUDENT].regions) == {"front", "back", ALL} and table.ceiling[ALL].mean > r[STUDENT] * 0.5
    assert table.rows[STUDENT].found == pytest.approx(0.8)
    names = {row["name"] for row in frame_rows(table)}
    assert {"r_student_against_word_rate", "r_stack_against_banded_ridge", "gain_of_stack"} <= names
    assert any("8 people" in line for line in table_lines(table))
    mine, ridge = (encoding.unit_r(name).mean(1) for name in ("student", "banded ridge"))
    assert table.rows["student"].over_ridge.mean == pytest.approx((mine - ridge).mean(), abs=1e-6)
    assert table.rows["banded ridge"].over_ridge.mean == 0.0
    lines = region_lines(table)
    assert len(lines) == len(masks) * (1 + len(table.rows)) and lines[0].startswith(next(iter(masks)))
