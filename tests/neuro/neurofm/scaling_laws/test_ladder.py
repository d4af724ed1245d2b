"""The ladder: a gate opens for nothing but measured scores above their baselines, and costs follow from a rate."""

from __future__ import annotations

import itertools

import pytest

from nbkit.neuro.neurofm.scaling_laws.ladder import (
    FAILED,
    OPEN,
    PASSED,
    RUNGS,
    Grant,
    StepRate,
    checks_of,
    find_rung,
    gate_of,
    ladder_rows,
    ladder_table,
    measured_rate,
    require_gate,
    rung_cost,
)

RATE = StepRate(0.5, 16, 100, "one T4")


def left_by(rung: int, values: dict[str, float], data: str = "real") -> dict:
    """Results in which the scores up to a rung are as given, each beside a baseline of 0.1; others are not there."""
    results: dict = {}
    for check in checks_of(find_rung(rung)):
        phase = results.setdefault(check.slug, {"metrics": {}, "data": data})
        if check.metric in values:
            phase["metrics"][check.metric] = {"value": values[check.metric], "baseline": 0.1, "baseline_is": "chance"}
    return results


def test_the_rungs_are_the_seeds_and_the_first_has_no_gate():
    assert [rung.recordings for rung in RUNGS] == [4, 10, 20, 50, 100]
    assert gate_of(4, {}).passed and not any(gate_of(rung.recordings, {}).passed for rung in RUNGS[1:])


@pytest.mark.parametrize("rung", [10, 20, 50, 100])
def test_a_gate_opens_only_where_every_check_has_passed(rung):
    below = {check.metric: 0.2 for check in checks_of(find_rung(rung))}
    names = [check.metric for check in find_rung(rung).gate]
    for scores in itertools.product((0.2, 0.1, None), repeat=len(names)):
        given = {name: score for name, score in zip(names, scores, strict=True) if score is not None}
        lower = {name: score for name, score in below.items() if name not in names}
        gate = gate_of(rung, left_by(rung, lower | given))
        assert gate.passed == all(score == 0.2 for score in scores), "equal to the baseline is not better than it"
        assert gate.state == (FAILED if 0.1 in scores else OPEN if None in scores else PASSED)


def test_a_shut_gate_says_each_check_and_what_to_do():
    with pytest.raises(ValueError, match=r"(?s)no go.*not measured.*bits_per_spike.*IGNORE_GATE = True"):
        require_gate(10, {})
    with pytest.raises(ValueError, match=r"failed.*0.05 against 0.1 \(chance\)"):
        require_gate(20, left_by(20, {"best_bits_per_spike": 0.05}))
    assert not require_gate(10, {}, ignore=True).passed


def test_a_gate_that_opened_on_made_up_data_says_so():
    scores = {check.metric: 0.5 for check in checks_of(find_rung(20))}
    results = left_by(20, scores, data="synthetic spikes")
    assert require_gate(20, results).passed and "measured on: synthetic spikes" in gate_of(20, results).words
    assert "measured on" not in gate_of(20, left_by(20, scores)).words


def test_who_passed_over_a_rung_has_not_passed_it():
    high = {check.metric: 0.5 for check in find_rung(50).gate}
    assert gate_of(50, left_by(50, high)).state == OPEN, "nothing was measured on the rungs below"
    assert gate_of(50, left_by(50, {check.metric: 0.5 for check in checks_of(find_rung(50))})).passed


def test_what_a_rung_takes_follows_from_the_rate():
    cost = rung_cost(find_rung(10), RATE, Grant(30, 9, 2.0))
    assert cost.steps == 20 * 63  # 1000 windows in batches of 16
    assert cost.hours == pytest.approx(5 * 1260 * 0.5 / 3600)
    assert cost.sessions == 1 and cost.weeks == pytest.approx(cost.hours / 30)
    assert cost.dollars == pytest.approx(2 * cost.hours)
    assert rung_cost(find_rung(10), StepRate(50, 16, 100, ""), Grant()).sessions == 11  # 87.5 h in 8.1 h each
    assert rung_cost(find_rung(10), RATE, Grant()).dollars is None


def test_the_table_has_a_line_a_rung_and_names_the_rate():
    rows = ladder_rows(left_by(10, {"test_bits_per_spike": 0.3, "test_r2_neurofm": 0.05}), RATE)
    assert [row["gate"] for row in rows] == [PASSED, FAILED, FAILED, FAILED, FAILED]
    lines = ladder_table(rows, RATE).splitlines()
    assert len(lines) == 7 and lines[-1] == "rate: 0.5 s per step of 16 windows, 100 windows per recording; one T4"


def test_the_rate_is_that_of_the_trainings_on_growing_data():
    row = {"experiment": "data", "dim": 128, "blocks": 4, "latents": 32, "epochs": 20}
    trials = [
        row | {"recordings": 5, "windows": 400, "steps": 1000, "seconds": 300.0},
        row | {"recordings": 10, "windows": 800, "steps": 2000, "seconds": 600.0},
        row | {"experiment": "model", "recordings": 5, "windows": 400, "steps": 1, "seconds": 1e6},
    ]
    rate = measured_rate(trials, "one T4")
    assert (rate.seconds, rate.batch_size, rate.windows) == (pytest.approx(0.3), 8, 80)
    assert rate.where == "one T4; width 128, 4 blocks, 32 latents"
    assert measured_rate(trials[2:], "") is None and measured_rate([], "") is None


def test_without_a_measured_rate_the_ladder_stands_with_its_gates_and_says_so():
    rows = ladder_rows(left_by(10, {"test_bits_per_spike": 0.3}), None, Grant(price_per_hour=4.0))
    assert [row["hours"] for row in rows] == [None] * 5 and rows[0]["gate"] == PASSED
    lines = ladder_table(rows, None).splitlines()
    assert "20-30 (plan)" in lines[2] and lines[2].endswith(OPEN)
    assert lines[-1] == "rate: not measured: 52_neurofm_scaling has no results in this store"


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"no rung of 5 recordings; it has \[4, 10"):
        find_rung(5)
    with pytest.raises(ValueError, match="seconds = 0"):
        StepRate(0, 16, 100, "")
