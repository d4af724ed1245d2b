"""Scores against the challenge's own formula."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import root_mean_squared_error

from nbkit.neuro.challenge.metrics import CONSTANT, PUBLISHED, nrmse, nrmse_interval, overall, score_rows


@pytest.mark.parametrize("seed", range(5))
def test_nrmse_is_sklearns_error_over_the_population_deviation(seed):
    draws = np.random.default_rng(seed)
    target, prediction = draws.normal(1.6, 0.4, (50, 1)), draws.normal(1.6, 0.4, 50)
    truth = root_mean_squared_error(target[:, 0], prediction) / target.std(ddof=0)
    assert nrmse(target, prediction) == pytest.approx(truth, rel=1e-12)
    assert nrmse(target, prediction) != pytest.approx(truth * np.sqrt(49 / 50), rel=1e-6)  # not the sample's


def test_the_mean_scores_one_and_the_truth_zero():
    target = np.array([0.3, 1.0, 2.2])
    assert nrmse(target, np.full(3, target.mean())) == pytest.approx(CONSTANT)
    assert nrmse(target, target) == 0


def test_overall_is_the_winners():
    winner = PUBLISHED[0]
    assert overall(winner.challenge1, winner.challenge2) == winner.overall == 0.96381
    cerebro = next(score for score in PUBLISHED if score.what == "cerebro")
    assert overall(cerebro.challenge1, cerebro.challenge2) == cerebro.overall
    assert overall(1 / 3, 1 / 3) == 0.33333


@pytest.mark.parametrize(
    ("target", "prediction", "match"),
    [([1, 1], [1, 2], "no scale"), ([1, 2], [1], "2 targets and 1"), ([1, np.nan], [1, 2], "1 targets and 0")],
)
def test_what_has_no_score_is_refused(target, prediction, match):
    with pytest.raises(ValueError, match=match):
        nrmse(target, prediction)


def test_the_interval_is_the_bootstrap_over_subjects_by_brute_force():
    draws = np.random.default_rng(0)
    subjects = np.repeat(list("abcdefgh"), [3, 9, 5, 5, 5, 2, 8, 4])
    level = dict(zip("abcdefgh", draws.normal(size=8), strict=True))
    target = np.array([level[s] for s in subjects]) + 0.1 * draws.normal(size=41)
    prediction = target + draws.normal(size=41)
    names = np.unique(subjects)
    scores = []
    for pick in np.random.default_rng(7).integers(8, size=(300, 8)):
        rows = np.concatenate([np.flatnonzero(subjects == names[i]) for i in pick])
        scores.append(nrmse(target[rows], prediction[rows]))
    found = nrmse_interval(target, prediction, subjects, draws=300, seed=7)
    assert found == pytest.approx(np.quantile(scores, [0.025, 0.975]), rel=1e-9)
    assert found[0] < nrmse(target, prediction) < found[1]
    with pytest.raises(ValueError, match="two subjects"):
        nrmse_interval(target, prediction, ["a"] * 41)


def test_rows_stand_beside_the_constant():
    target = np.array([0.0, 1.0, 2.0])
    rows = score_rows("c1_nrmse", target, [0.1, 1, 2], 2.0, others={"ridge": 0.7})
    assert [row["name"] for row in rows] == ["c1_nrmse", "c1_nrmse_ridge"] and rows[1]["value"] == 0.7
    assert rows[0]["baseline"] == pytest.approx(np.sqrt(5 / 3) / target.std()) and "1:" in rows[0]["baseline_is"]
    assert "anchor" not in rows[0]  # a score of no challenge


def test_a_challenge_s_score_stands_beside_the_best_published_one():
    target = np.array([0.0, 1.0, 2.0])
    rows = score_rows("challenge1_test_nrmse", target, [0.1, 1, 2], 2.0, others={"ridge": 0.7})
    best = min(score.challenge1 for score in PUBLISHED if score.challenge1)
    assert rows[0]["anchor"] == best < min(score.challenge1 for score in PUBLISHED if "winner" in score.what)
    assert "hidden subjects" in rows[0]["anchor_is"] and "anchor" not in rows[1]
