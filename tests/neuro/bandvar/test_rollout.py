"""Rollouts against step by step calls, and their scores against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from nbkit.neuro.bandvar.model import EEGScaleAutoregressiveModel
from nbkit.neuro.bandvar.rollout import (
    autoregressive_inference,
    delta_conditioned_inference,
    rollout_rows,
    rollout_scores,
    rollout_table,
    snr_db,
)

NAMES = ("delta", "theta", "alpha")


@pytest.fixture(params=[0, 3], ids=["seed's form", "told its stage"])
def model(request):
    torch.manual_seed(0)
    return EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, num_stages=request.param)


def test_the_rollout_is_the_calls_one_after_the_other(model):
    model.eval()
    current, by_hand = torch.zeros(1, 4, 16), []
    with torch.no_grad():
        for stage in range(3):
            current = model(current, stage) if model.num_stages else model(current)
            by_hand.append(current[0])
    rollout = autoregressive_inference(model, 3, 4, 16, "cpu")
    assert rollout.shape == (3, 4, 16)
    torch.testing.assert_close(rollout, torch.stack(by_hand))


def test_the_conditioned_rollout_begins_with_the_truth(model):
    model.eval()
    first = torch.randn(2, 4, 16)
    rollout = delta_conditioned_inference(model, first, 3)
    with torch.no_grad():
        second = model(first, 1) if model.num_stages else model(first)
        third = model(second, 2) if model.num_stages else model(second)
    torch.testing.assert_close(rollout, torch.stack([first, second, third], dim=1))


def test_the_first_input_is_zeros():
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x + 1

    rollout = autoregressive_inference(Watched(), num_stages=3, channels=2, time_steps=5, device="cpu")
    assert seen[0].shape == (1, 2, 5) and not seen[0].any()
    assert rollout[:, 0, 0].tolist() == [1.0, 2.0, 3.0]


def test_dropout_is_off_and_the_models_mode_comes_back(model):
    model.train()
    assert torch.equal(autoregressive_inference(model, 3, 4, 16), autoregressive_inference(model, 3, 4, 16))
    assert model.training


def test_scores_are_those_of_loops():
    draws = np.random.default_rng(0)
    rollout, truth = draws.normal(size=(2, 3, 4, 5)), draws.normal(size=(2, 3, 4, 5))
    scores = rollout_scores(rollout, truth, NAMES)
    total = 0.0
    for stage, name in enumerate(NAMES):
        squares = [
            (rollout[w, stage, c, t] - truth[w, stage, c, t]) ** 2 for w in range(2) for c in range(4) for t in range(5)
        ]
        assert scores[f"stage_mse_{name}"] == pytest.approx(sum(squares) / 40)
        total += sum(squares) / 40
    assert scores["cumulative_mse"] == pytest.approx(total / 3)
    power = sum(v**2 for v in truth[:, -1].ravel()) / 40
    assert scores["snr_db"] == pytest.approx(10 * math.log10(power / scores["stage_mse_alpha"]))


def test_snr_of_known_signals():
    truth = np.ones(10)
    assert snr_db(truth, np.zeros(10)) == pytest.approx(0.0)
    assert snr_db(truth, 0.9 * truth) == pytest.approx(20.0)
    assert snr_db(truth, truth) == math.inf


def test_one_rollout_is_held_against_every_window(model):
    truth = torch.randn(5, 3, 4, 16)
    table = rollout_table(model, truth, NAMES)
    rollout = autoregressive_inference(model, 3, 4, 16).numpy()
    one_by_one = [rollout_scores(rollout, window.numpy(), NAMES)["cumulative_mse"] for window in truth]
    assert table["zero_start"]["cumulative_mse"] == pytest.approx(np.mean(one_by_one))
    assert table["zero"]["snr_db"] == pytest.approx(0.0)
    assert table["delta_conditioned"]["stage_mse_delta"] == 0.0 == table["persistence"]["stage_mse_delta"]
    kept = ((truth[:, 0] - truth[:, 2]) ** 2).mean()
    assert table["persistence"]["stage_mse_alpha"] == pytest.approx(float(kept), rel=1e-5)


def test_rows_of_a_table_stand_beside_the_right_baseline(model):
    table = rollout_table(model, torch.randn(3, 3, 4, 16), NAMES)
    rows = {row["name"]: row for row in rollout_rows(table)}
    zero, told = rows["zero_start_stage_mse_theta"], rows["delta_conditioned_snr_db"]
    assert zero["value"] == table["zero_start"]["stage_mse_theta"]
    assert zero["baseline"] == table["zero"]["stage_mse_theta"]
    assert (told["value"], told["baseline"]) == (table["delta_conditioned"]["snr_db"], table["persistence"]["snr_db"])
    assert zero["unit"] == "uV^2" and told["unit"] == "dB" and len(rows) == 10


def test_names_and_stages_must_agree():
    with pytest.raises(ValueError, match="does not have the 3 stages delta, theta, alpha"):
        rollout_scores(np.zeros((2, 4, 5)), np.zeros((2, 4, 5)), NAMES)
