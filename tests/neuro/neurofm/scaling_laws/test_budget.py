"""The budget: the seed's totals at the seed's prices, and what another price changes."""

from __future__ import annotations

import pytest

from nbkit.neuro.neurofm.scaling_laws.budget import (
    AGGRESSIVE,
    CONSERVATIVE,
    PLANS,
    Line,
    Plan,
    Prices,
    decide,
    decisions,
    spend,
)
from nbkit.neuro.neurofm.scaling_laws.ladder import Gate, gate_of

PASSED = {rung: Gate(rung, ()) for rung in (4, 10, 20, 50, 100)}


@pytest.mark.parametrize(("plan", "total", "buffer"), [(CONSERVATIVE, 430, 70), (AGGRESSIVE, 480, 20)])
def test_the_seeds_sums_come_back_at_the_seeds_prices(plan, total, buffer):
    found = spend(plan, Prices.seed())
    assert (found.wrote_total, found.wrote_buffer) == (total, buffer)
    assert found.total == pytest.approx(total, abs=5) and found.fits
    for line, cost in zip(plan.lines, found.costs, strict=True):
        assert cost == pytest.approx(line.wrote, abs=2)
    assert f"{total}" in found.words and "buffer" in found.words


def test_at_one_price_for_every_accelerator_neither_plan_fits():
    assert all(not spend(plan, Prices(4.0)).fits for plan in PLANS.values())
    assert spend(CONSERVATIVE, Prices(4.0)).total == 4 * (12.5 + 8 + 25 + 160 + 12)


def test_the_five_phases_of_the_text_fit_only_without_the_optional_one():
    found = spend(PLANS["five phases"], Prices.seed())
    assert found.wrote_total == 725 and found.total == 755 and not found.fits
    assert found.total - found.costs[-1] <= 500


def test_measured_hours_take_the_place_of_planned_ones():
    found = spend(CONSERVATIVE, Prices(1.0, 2.0), {20: 3.0, 100: 10.0})
    assert found.costs == (0, 12.5, 3, 25, 20, 12)


def test_the_next_line_goes_only_through_its_gate_and_within_the_budget():
    found = spend(CONSERVATIVE, Prices.seed())
    names = [line.name for line in CONSERVATIVE.lines]
    assert decide(found, [], PASSED).startswith("go: validation")
    assert decide(found, names[:1], {10: gate_of(10, {})}) == f"no go: {names[1]}: its gate is not measured"
    assert decide(found, names[:1], {}).startswith("no go: search")
    assert decide(found, names[:4], PASSED) == "go: many modalities, 150 recordings for 200; 118 are left after it"
    assert decide(found, names[:4], PASSED, spent=350) == (
        "no go: many modalities, 150 recordings costs 200, but 150 of 500 are left"
    )
    assert decide(found, names[:5], {}).startswith("go: evaluation"), "a line of no rung has no gate"
    assert decide(found, names, {}).startswith("done")


def test_both_plans_are_laid_out_with_a_decision_each():
    said = decisions({}, 4.0, 5.0, {"conservative": ["validation, 4 recordings"]})
    assert said.count("into 500") == 2 and "does not fit" not in said
    assert "no go: search, 10 recordings, 5 runs: its gate is not measured" in said
    assert "go: validation, 4 recordings for 0" in said
    assert decisions({}, 4.0).count("does not fit") == 2
    with pytest.raises(ValueError, match="no plans"):
        decisions({}, 4.0, done={"cheap": []})


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="price gpu_hour is -1"):
        Prices(-1)
    with pytest.raises(ValueError, match="rung of 4 recordings has nan h"):
        spend(CONSERVATIVE, Prices(1), {4: float("nan")})
    with pytest.raises(ValueError, match=r"no lines \['x'\]"):
        decide(spend(Plan("own", (Line("a", 4, 1, 1, 0),)), Prices(1)), ["x"], {})
