"""The planner against the plan's own tables, and arithmetic by hand."""

from dataclasses import replace

import pytest

from nbkit.neuro.tribe.planner import Host, Rates, measured_rates, plan, plan_table, storage_gb


@pytest.mark.parametrize(("name", "hours"), [("A", 315), ("C", 399)])
def test_the_estimates_give_the_plan_s_totals(name, hours):
    rows = plan(name)
    assert rows[-1].gpu_hours == pytest.approx(hours, rel=0.002)
    assert rows[-1].cost is None
    assert plan(name, host=Host(price_per_hour=1.0))[-1].cost == pytest.approx(hours, rel=0.002)


def test_steps_sessions_and_weeks_by_hand():
    rows = {row.name: row for row in plan("C", Rates(load_s=0.0), Host(weekly_hours=30, session_hours=9))}
    assert rows["teacher"].gpu_hours == 160 and rows["teacher"].weeks == pytest.approx(160 / 30)
    assert rows["teacher"].sessions == 20  # 160 / 8.1 begun
    assert rows["pretrain"].gpu_hours == 20 and rows["distill"].gpu_hours == 5 and rows["fmri"].gpu_hours == 10
    four = {row.name: row for row in plan("C", Rates(load_s=0.0), Host(gpus=4))}
    assert four["teacher"].weeks == pytest.approx(40 / 30) and four["teacher"].gpu_hours == 160


def test_storage_is_bytes_by_hand():
    assert storage_gb("teacher", 320) == pytest.approx(52.5, abs=0.1)
    assert storage_gb("teacher", 1) == pytest.approx(3600 * 2 * (20484 + 2304) / 1e9)
    assert storage_gb("features", 1) == pytest.approx(20.3e-3, abs=1e-4)
    assert storage_gb("teacher", 320, 5124) < 0.35 * storage_gb("teacher", 320)


def test_a_measured_rate_replaces_an_estimate_and_is_named():
    rates = Rates().measured({"teacher": (3600.0, 900.0)}, "T4, 12 segments")
    assert rates.teacher == 4.0 and rates.features == 10.0
    assert "teacher measured (T4, 12 segments); features" in rates.source and "estimated" in rates.source
    assert plan("C", rates)[0].gpu_hours < 0.51 * plan("C")[0].gpu_hours
    text = plan_table(rates=rates, host=Host(price_per_hour=0.5))
    assert "teacher measured" in text and "0.5 an hour, as given" in text
    assert "no price given" in plan_table(["sprint"])
    assert measured_rates({"teacher": (3600.0, 900.0), "features": (0.0, 0.0)}, "x").teacher == 4.0
    assert measured_rates({"teacher": (0.0, 0.0)}, "x") == Rates()


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ValueError, match="'B' is unknown; it may be A, C, medium, minimal, free, sprint, minimum"):
        plan("B")
    with pytest.raises(ValueError, match="'speed' has no rate"):
        Rates().measured({"speed": (1, 1)}, "x")
    with pytest.raises(ValueError, match="both must be above 0"):
        Rates().measured({"teacher": (1, 0)}, "x")
    with pytest.raises(ValueError, match="grants nothing"):
        plan("A", host=Host(weekly_hours=0))
    with pytest.raises(ValueError, match="the rate of teacher is 0"):
        plan("A", replace(Rates(), teacher=0))
