"""Time-lines: nothing begins before what it reads, and the critical path is what delays the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.tribe.planner import STRATEGIES, Host, Rates, plan
from nbkit.neuro.tribe.timeline import next_steps, timeline, timeline_lines


@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("name", STRATEGIES)
def test_no_step_begins_before_what_it_reads(name, gpus):
    host = Host(gpus=gpus)
    spans = {span.name: span for span in timeline(plan(name, host=host), host)}
    for step, before in (
        ("pretrain", "features"),
        ("distill", "teacher"),
        ("distill", "pretrain"),
        ("fmri", "distill"),
    ):
        if {step, before} <= set(spans):
            assert spans[step].begin >= spans[before].end - 1e-9
    if gpus == 1:  # one GPU does one thing at a time, and is never idle
        ordered = sorted(spans.values(), key=lambda span: span.begin)
        assert all(b.begin == pytest.approx(a.end) for a, b in zip(ordered, ordered[1:], strict=False))
        assert all(span.critical for span in spans.values())


def test_a_delay_off_the_critical_path_costs_nothing_and_on_it_everything():
    host = Host(gpus=4)
    spans = timeline(plan("C", host=host), host)
    end = max(span.end for span in spans)
    assert {span.name for span in spans if not span.critical} == {"teacher"}
    slower = timeline(plan("C", Rates(teacher=1.9), host), host)
    assert max(span.end for span in slower) == pytest.approx(end)
    slower = timeline(plan("C", replace(Rates(), features=9.0), host), host)
    assert max(span.end for span in slower) > end * 1.02


def test_the_bars_and_the_gate():
    lines = timeline_lines(timeline(plan("C", host=Host(gpus=4)), Host(gpus=4)))
    assert any(line.startswith("features") and "#" in line for line in lines)
    assert "go on to the full run" in next_steps([{"val_r": 0.1}, {"val_r": 0.23}, {"step": 3}])[0]
    low = next_steps([{"val_r": 0.22}])
    assert len(low) == 5 and "not above the gate of 0.22" in low[0]
    assert "cannot be judged" in next_steps([])[0]
