"""Schedules against torch's own, and rates by group."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.tribe.schedules import (
    group_of,
    one_cycle,
    optimizer_of,
    ramp,
    stage,
    steps_of_epochs,
    warm_cosine,
    windows_of_hours,
)


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


def test_warm_cosine_rises_on_a_line_and_ends_at_nothing():
    rates = [warm_cosine(step, 1000, 0.05) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 50) and rates[49] == pytest.approx(1.0) == max(rates)
    assert rates[525] == pytest.approx(0.5, abs=0.01) and rates[1000] == pytest.approx(0.0)
    assert all(a >= b for a, b in zip(rates[50:], rates[51:], strict=False))


def test_ramp_and_stages():
    assert [ramp(step, 0.1, 0.01, 1000) for step in (0, 500, 1000, 9000)] == pytest.approx([0.1, 0.055, 0.01, 0.01])
    values = [stage(step, 100, (0.3, 0.1, 0.0), (0.3, 0.6)) for step in (0, 29, 30, 59, 60, 99, 500)]
    assert values == [0.3, 0.3, 0.1, 0.1, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="one border fewer"):
        stage(0, 10, (1.0,), (0.5,))


def test_epochs_become_steps():
    assert steps_of_epochs(10, 80, 8) == 100 and steps_of_epochs(10, 81, 8) == 110
    assert windows_of_hours(1.0, 30.0, 15.0) == 240
    with pytest.raises(ValueError, match="no training"):
        steps_of_epochs(10, 0, 8)


def test_groups_are_found_by_name():
    assert group_of("student.trunk.fusion.blocks.0.moe.w1") == "fusion"
    assert group_of("trunk.times") == group_of("student.trunk.modality") == "embeddings"
    assert group_of("student.trunk.motion.conv.weight") == group_of("trunk.projectors.text.1.bias") == "projectors"
    assert group_of("student.hrf.weight") == group_of("feature_head.bias") == "head"
    assert group_of("backbones.audio.conv.weight") == "backbones"


def test_a_group_of_rate_zero_is_frozen_and_one_without_rate_is_an_error():
    module = torch.nn.Module()
    module.trunk = torch.nn.Module()
    module.trunk.times = torch.nn.Parameter(torch.zeros(2))
    module.vertices = torch.nn.Linear(2, 2)
    made = optimizer_of(module, {"embeddings": 0.0, "head": 0.1}, 0.01, lambda step: 1.0)
    assert not module.trunk.times.requires_grad
    assert [(group["name"], group["lr"]) for group in made["optimizer"].param_groups] == [("head", 0.1)]
    with pytest.raises(ValueError, match="no rate for vertices.weight"):
        optimizer_of(module, {"embeddings": 0.0}, 0.01, lambda step: 1.0)
