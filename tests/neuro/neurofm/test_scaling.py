"""Scaling: planted losses give their verdict, parts give partial ones, and the ladder's gate reads what is reported."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.neurofm.scaling import ScalingSettings, report_scaling, scaling_rows
from nbkit.neuro.neurofm.scaling_laws.ladder import FAILED, OPEN, PASSED, gate_of
from nbkit.runtime.ledger.manifest import read_manifest

SETTINGS = ScalingSettings.free()


def done(row: dict, a: float, c: float = 2.0, noise: float = 0.002) -> dict:
    draw = np.random.default_rng([row["seed"], row["dim"], row["recordings"]]).normal()
    loss = (
        a * row["recordings"] ** -0.5 + c - 0.01 * np.log2(row["dim"]) * (row["experiment"] == "model") + noise * draw
    )
    return {**row, "loss": loss, "mean_rate_loss": 3.0, "bits_per_spike": 3.0 - loss, "compute": float(row["dim"]) ** 2}


def answers(rows: list[dict]) -> dict[str, str]:
    """Return what the gate of 50 recordings answers to each metric, of these rows alone."""
    gate = gate_of(50, {"neurofm_scaling": {"metrics": {row["name"]: row for row in rows}}})
    return {answer.check.metric: answer.state for answer in gate.answers}


def test_the_rows_are_the_seeds_experiments():
    rows = scaling_rows(SETTINGS)
    data = [r for r in rows if r["experiment"] == "data"]
    models = [r for r in rows if r["experiment"] == "model"]
    assert {r["recordings"] for r in data} == {5, 10, 20, 40} and {r["recordings"] for r in models} == {20}
    assert {(r["dim"], r["latents"]) for r in models} == {(64, 16), (128, 32), (256, 64), (512, 128)}
    assert {r["judged"] for r in rows} == {5} and {r["epochs"] for r in rows} == {20}
    assert len(data) == 4 * 3 and len(models) == 4 * 3 and len(read_manifest(rows, "neurofm_scaling")) == 24


def test_a_planted_law_comes_back_and_opens_the_gate():
    rows = scaling_rows(SETTINGS)
    report = report_scaling([done(row, 1.0) for row in rows], SETTINGS, len(rows))
    low, high = report.verdict.fit.alpha_interval
    assert report.verdict.verdict == "more data helps" and low <= 0.5 <= high
    assert len(report.spot.configurations) == 4
    size, loss, low, high = report.prediction()
    assert size == 80 and low < loss < high and loss == pytest.approx(2 + 80**-0.5, abs=0.02)
    assert len(report.curve()[0]) == 60 and "exponent" in report.law
    assert "24 of 24 trainings" in report.words and report.mean_rate_loss == 3.0
    assert answers(report.rows)["gain_at_next_high"] == PASSED


def test_flat_losses_shut_the_gate():
    rows = scaling_rows(SETTINGS)
    report = report_scaling([done(row, 0.0) for row in rows], SETTINGS, len(rows))
    assert report.verdict.verdict == "at capacity" and answers(report.rows)["gain_at_next_high"] == FAILED


def test_a_network_that_learnt_nothing_is_not_at_capacity():
    rows = scaling_rows(SETTINGS)
    trials = [done(row, 0.0, c=2.999) | {"unit": "bit/sample"} for row in rows]
    report = report_scaling(trials, SETTINGS, len(rows))
    assert report.verdict.verdict == "inconclusive" and "no size predicts masked units better" in report.words
    assert answers(report.rows)["gain_at_next_high"] == OPEN and report.curve() is None
    assert {row["unit"] for row in report.rows} == {"bit/sample"} == {report.unit}


def test_what_is_done_so_far_gives_a_partial_report():
    rows = scaling_rows(SETTINGS)
    nothing = report_scaling([], SETTINGS, len(rows))
    assert nothing.verdict.verdict == "inconclusive" and nothing.rows == [] and nothing.curve() is None
    assert nothing.spot.configurations == () and nothing.law == "" and nothing.prediction() is None
    some = report_scaling([done(row, 1.0) for row in rows[:2]], SETTINGS, len(rows))
    assert "2 of 24" in some.words and "runs of 2 sizes (5, 10)" in some.verdict.reason
    assert answers(some.rows)["gain_at_next_high"] == OPEN, "no fit, no verdict"


def test_smoke_has_enough_runs_for_a_fit():
    smoke = ScalingSettings.smoke()
    rows = scaling_rows(smoke)
    assert report_scaling([done(row, 1.0) for row in rows], smoke, len(rows)).verdict.fit is not None


def test_the_scored_recordings_must_be_among_those_of_every_run():
    with pytest.raises(ValueError, match="model_recordings is 4; it must be at least 5"):
        scaling_rows(ScalingSettings(model_recordings=4))
