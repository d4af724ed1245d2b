"""Rates against torch's own schedules and known points."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.training.rates import (
    cosine_rate,
    cosine_times_warmup,
    linear_rate,
    one_cycle,
    ramp,
    scaled_rate,
    stage,
)


def test_warm_up_and_fall():
    shares = [linear_rate(step, 200, 50, 0.1) for step in range(200)]
    assert shares[0] == pytest.approx(0.005) and shares[50] == 1.0 and shares[-1] == pytest.approx(0.1)
    assert shares[:51] == sorted(shares[:51]) and shares[50:] == sorted(shares[50:], reverse=True)
    assert linear_rate(500, 200, 50, 0.1) == pytest.approx(0.1)
    assert {linear_rate(step, 200, 0, 1.0) for step in range(200)} == {1.0}


def test_the_rate_goes_with_the_batch():
    assert scaled_rate(1e-4, 768) == pytest.approx(3e-4)
    assert scaled_rate(1e-4, 64) == pytest.approx(2.5e-5)


@pytest.mark.parametrize(("steps", "warm"), [(100, 0.1), (200, 0.05), (37, 0.3)])
def test_one_cycle_is_torchs(steps, warm):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=warm, cycle_momentum=False
    )
    for step in range(steps):
        assert one_cycle(step, steps, warm) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6, abs=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()
    assert one_cycle(steps + 5, steps, warm) < 1e-5  # a training that is made longer goes on, slowly


def test_a_cosine_rises_on_a_line_and_ends_at_nothing():
    rates = [cosine_rate(step, 1000, 50, 0.0) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 50) and rates[49] == pytest.approx(1.0) == max(rates)
    assert rates[525] == pytest.approx(0.5, abs=0.01) and rates[1000] == pytest.approx(0.0)
    assert all(a >= b for a, b in zip(rates[50:], rates[51:], strict=False))


def test_ramp_and_stages():
    assert [ramp(step, 0.1, 0.01, 1000) for step in (0, 500, 1000, 9000)] == pytest.approx([0.1, 0.055, 0.01, 0.01])
    values = [stage(step, 100, (0.3, 0.1, 0.0), (0.3, 0.6)) for step in (0, 29, 30, 59, 60, 99, 500)]
    assert values == [0.3, 0.3, 0.1, 0.1, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="one border fewer"):
        stage(0, 10, (1.0,), (0.5,))


def test_a_cosine_over_all_steps_is_torchs_after_the_warm_up():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80, eta_min=0.02)
    for step in range(80):
        rise = min(1.0, (step + 1) / 10)
        assert cosine_times_warmup(step, 80, 10, 0.02) == pytest.approx(rise * theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()
    assert cosine_times_warmup(500, 80, 10, 0.02) == pytest.approx(0.02)
    assert [cosine_times_warmup(step, 80, 0, 1.0) for step in (0, 40, 500)] == [1.0, 1.0, 1.0]
