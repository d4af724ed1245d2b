"""Steps, rates, decay and patience."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.labram.finetune import FinetuneSettings, Regressor
from nbkit.neuro.labram.pretrain import PretrainSettings
from nbkit.neuro.training.optimization import Patience, check_batch, counted, make_optimizer
from nbkit.neuro.training.rates import cosine_rate
from tests.neuro.labram.training import CH_NAMES, Windows, train


def test_epochs_become_steps_and_steps_stand():
    settings = counted(PretrainSettings(), 40)
    assert (settings.steps, settings.warmup_steps, settings.patience_steps) == (12000, 200, 1200)
    assert counted(replace(PretrainSettings(), steps=7, warmup_steps=2), 40).steps == 7
    with pytest.raises(ValueError, match="fewer windows than one batch of 64"):
        counted(PretrainSettings(), 0)
    module = Regressor(FinetuneSettings(dim=20, heads=2, depth=1), CH_NAMES, 100.0)
    with pytest.raises(ValueError, match="counted"):
        module.configure_optimizers()


def test_the_rate_warms_up_and_falls_to_its_floor():
    rates = [cosine_rate(step, 100, 10, 0.1) for step in range(130)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1) and max(rates) <= 1
    assert rates[55] == pytest.approx(0.55) and rates[100] == rates[129] == pytest.approx(0.1)


def test_only_matrices_decay():
    module = Regressor(FinetuneSettings(dim=20, heads=2, depth=1, steps=5), CH_NAMES, 100.0)
    optimizer = make_optimizer(module, module.settings)["optimizer"]
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    weights = dict(module.named_parameters())
    for name in ("backbone.pos_embed", "backbone.cls_token", "backbone.blocks.0.gamma_1", "backbone.norm.bias"):
        assert decays[id(weights[name])] == 0, name
    assert decays[id(weights["backbone.blocks.0.mlp.fc1.weight"])] == 0.05


def test_patience_ends_a_training_that_no_longer_improves_and_remembers():
    data = Windows(count=64)
    settings = FinetuneSettings(patch=20, dim=16, heads=2, depth=1, lr=1e-12, min_lr=0, steps=100, warmup_steps=1)
    module = Regressor(settings, CH_NAMES, 20.0, data.target_scale())
    patience = Patience("val_nrmse", 4)
    module.configure_callbacks = lambda: [patience]
    trainer = train(module, data, 100, val_check_interval=2)
    assert trainer.global_step < 30
    again = Patience("val_nrmse", 4)
    again.load_state_dict(patience.state_dict())
    assert (again.best, again.best_step) == (patience.best, patience.best_step)


def test_a_batch_is_refused_by_the_name_it_has():
    batch = {"window": torch.zeros(2, 3, 4), "recording": ["sub-1_run-2", "sub-1_run-3"], "target": torch.ones(2)}
    check_batch(batch, ("target",))
    batch["window"][1, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="recording sub-1_run-3 has samples"):
        check_batch(batch)
