"""Steps from epochs, and rates by group."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.tribe.schedules import group_of, optimizer_of, steps_of_epochs, windows_of_hours


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
