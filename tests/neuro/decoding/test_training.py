"""Training: the best step is what is kept, frozen weights stay as they are, and a fault is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from nbkit.neuro.decoding.training import FineTuneSettings, diagnose, forward, precision_of, train

SETTINGS = FineTuneSettings(steps=30, batch_size=16, val_every=5, warmup_steps=2, head_rate=1e-2)


class Net(nn.Module):
    """A frozen part with dropout and batch statistics, and a head."""

    def __init__(self, outputs=2):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        self.head = nn.Linear(16, outputs)

    def forward(self, windows):
        return self.head(self.backbone(windows.flatten(1)))


def problem(count=80):
    rng = np.random.default_rng(0)
    target = np.arange(count) % 2
    windows = rng.normal(size=(count, 3, 4)).astype(np.float32) + target[:, None, None]
    return windows, target, (np.arange(0, 60), np.arange(60, count))


def run(network, settings=SETTINGS, seed=1, windows=None, target=None, classes=2):
    made, labels, split = problem()
    return train(
        network, made if windows is None else windows, labels if target is None else target, split, settings,
        head=("head.weight", "head.bias"), classes=classes, seed=seed,
    )  # fmt: skip


def test_a_head_learns_and_what_is_frozen_stays_bit_for_bit():
    network = Net()
    network.backbone.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = run(network)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone"))
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert trained.best_loss < trained.history[0]["val_loss"] - 0.05 and set(trained.weights) == {
        "head.weight",
        "head.bias",
    }
    assert trained.diagnostics["words"] == []


def test_the_network_is_left_at_its_best_step():
    windows, target, (_, val) = problem()
    network = Net()
    trained = run(network, dataclasses.replace(SETTINGS, head_rate=3.0, backbone_rate=1.0))  # much too fast
    losses = {row["step"]: row["val_loss"] for row in trained.history if "val_loss" in row}
    assert trained.best_step == min(losses, key=losses.get) and trained.best_step < SETTINGS.steps
    outputs = forward(network, windows[val], "cpu")
    weigh = torch.tensor([1.0, 1.0])
    now = float(nn.functional.cross_entropy(outputs, torch.as_tensor(target[val]), weigh))
    assert now == pytest.approx(trained.best_loss, rel=1e-5)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_draws_alone():
    first, second, other = Net(), Net(), Net()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    histories = [run(first).history, run(second).history]
    assert histories[0] == histories[1] and torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert run(other, seed=2).history != histories[0]


def test_classes_weigh_the_same_however_many_windows_they_have():
    windows, _, (fit_on, _) = problem()
    target = (np.arange(80) % 8 == 0).astype(int)
    network = Net()
    run(network, dataclasses.replace(SETTINGS, steps=60), windows=np.zeros_like(windows), target=target)
    share = forward(network, np.zeros((1, 3, 4), np.float32), "cpu").softmax(1)[0, 1]
    assert abs(float(share) - 0.5) < 0.1  # nothing to see: as likely as the other, not one in eight
    assert len(fit_on) == 60


def test_a_regression_learns():
    windows, _, _ = problem()
    values = windows.mean((1, 2)) * 2
    trained = run(Net(1), dataclasses.replace(SETTINGS, steps=60), target=values, classes=0)
    assert trained.best_loss < 0.5 * trained.history[0]["val_loss"]


def test_steps_without_a_finite_gradient_are_skipped_counted_and_said():
    windows, _, _ = problem()
    windows = windows.copy()
    windows[7] = np.inf
    network = Net()
    network.backbone = nn.Sequential(nn.Linear(12, 16))
    trained = run(network, windows=windows)
    found = trained.diagnostics
    assert 0 < len(found["nonfinite_steps"]) < SETTINGS.steps and "not finite" in found["words"][0]
    assert all(torch.isfinite(weight).all() for weight in network.parameters())


def test_a_training_that_is_lost_is_given_up_and_its_start_is_kept():
    network, windows = Net(), problem()[0]
    before = network.head.weight.clone()
    broken = windows * np.where(np.arange(80) < 60, np.nan, 1.0)[:, None, None].astype(np.float32)
    trained = run(network, windows=broken)
    assert trained.best_step == 0 and torch.equal(network.head.weight, before)
    assert any("stopped at step 10 of 30" in word for word in trained.diagnostics["words"])


def test_a_network_that_nothing_reaches_is_said():
    history = [{"step": 0, "val_loss": 1.0}, {"step": 1, "train_loss": 1.0, "grad_norm": 0.0, "rate": 1.0}]
    words = diagnose(history, 0, FineTuneSettings(steps=1))["words"]
    assert any("all gradients are zero" in word for word in words) and any("untrained start" in word for word in words)


def test_settings_that_make_no_sense_are_refused_and_a_cpu_computes_in_float32():
    with pytest.raises(ValueError, match="each must be 1 or more"):
        FineTuneSettings(steps=0)
    with pytest.raises(ValueError, match="choose one of auto"):
        FineTuneSettings(precision="half")
    assert precision_of("auto", torch.device("cpu"))[0] == "fp32"
    network = Net()
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="all weights of the network have requires_grad=False"):
        run(network)
