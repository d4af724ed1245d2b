"""Rivals: strangers in one training, each as if alone; scores on the same windows."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.challenge.metrics import nrmse
from nbkit.neuro.labram.finetune import ComparedRegressor, FinetuneSettings, Regressor
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, write_synthetic_hbn
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.held_out.values import score_held_out
from nbkit.neuro.training.rivals import SCRATCH
from nbkit.neuro.training.window_module import predict
from tests.neuro.labram.training import Windows, train

TINY = replace(FinetuneSettings.smoke(), patch=20, dim=16, heads=2, depth=1, steps=12, warmup_steps=2, batch_size=8)


def made(data, settings=TINY) -> ComparedRegressor:
    lightning.seed_everything(1, verbose=False)
    return ComparedRegressor.for_data(settings, data)


def test_a_model_and_its_rival_train_as_if_alone():
    data = Windows()
    both = made(data)
    alone = [Regressor.for_data(TINY, data), Regressor.for_data(TINY, data)]
    own = {name: value for name, value in both.state_dict().items() if not name.startswith("rivals.")}
    alone[0].load_state_dict(own)
    alone[1].load_state_dict(both.rivals[SCRATCH].state_dict())
    logged = train(both, data, 12).callback_metrics
    rival = both.rivals[SCRATCH]
    for module, trained, score in ((alone[0], both, "val_nrmse"), (alone[1], rival, "val_nrmse_scratch")):
        mine = train(module, data, 12).callback_metrics
        for name, value in module.state_dict().items():
            torch.testing.assert_close(trained.state_dict()[name], value, msg=name)
        assert float(logged[score]) == pytest.approx(float(mine["val_nrmse"]), rel=1e-5)
    assert not torch.equal(both.head.weight, both.rivals[SCRATCH].head.weight)


def test_a_checkpoint_is_the_pretrained_models_and_brings_both_back(tmp_path):
    data = Windows()
    first = made(data)
    train(first, data, 5).save_checkpoint(tmp_path / "challenge1-best.ckpt")
    alone = Regressor.from_checkpoint(tmp_path / "challenge1-best.ckpt")  # no rival: what a submission takes
    assert torch.equal(alone.head.weight, first.head.weight) and alone.loaded.matched == alone.loaded.total
    resumed, content = made(data), torch.load(tmp_path / "challenge1-best.ckpt", weights_only=True)
    assert not torch.equal(resumed.rivals[SCRATCH].head.weight, first.rivals[SCRATCH].head.weight)
    resumed.on_load_checkpoint(content)
    resumed.load_state_dict(content["state_dict"])  # strictly, as Lightning does after the hook
    for name, value in first.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    going_on = made(data)
    assert train(going_on, data, 7, checkpoint=tmp_path / "challenge1-best.ckpt").global_step == 7
    assert not torch.equal(going_on.rivals[SCRATCH].head.weight, first.rivals[SCRATCH].head.weight)


def test_scores_are_of_the_same_windows_with_ridge_and_constant(tmp_path):
    settings = SyntheticHBNSettings(subjects=12, n_chans=6, tasks=("contrastChangeDetection",), runs=1, trials=8)
    write_synthetic_hbn(tmp_path, "challenge2", settings)
    data = WindowData(tmp_path, 16, fractions=(0.5, 0.25, 0.25), crop=200)
    module = ComparedRegressor.for_data(replace(TINY, patch=100), data)
    train(module, data, 4)
    best = Regressor.for_data(replace(TINY, patch=100), data)
    found = score_held_out("challenge2_test_nrmse", best, module, data)
    predicted, target = (part.numpy() for part in predict(module.rivals[SCRATCH], data.test_dataloader()))
    np.testing.assert_allclose(found.target, data.test_dataset.column("target"), rtol=1e-6)
    assert found.scores["from scratch, last step"] == pytest.approx(nrmse(target, predicted))
    low, high = found.intervals["from scratch, last step"]
    assert low < found.scores["from scratch, last step"] < high
    constant = nrmse(target, np.full(len(target), data.target_scale()[0]))
    assert found.scores["constant, training mean"] == pytest.approx(constant)
    rows = {row["name"]: row for row in found.rows}
    assert {"challenge2_test_nrmse", "challenge2_test_nrmse_scratch_last", "challenge2_test_nrmse_ridge"} <= set(rows)
    assert all(row["baseline"] == pytest.approx(constant) for row in rows.values())
    main, last = rows["challenge2_test_nrmse"], rows["challenge2_test_nrmse_last"]
    assert main["over"] == "3 subjects" and main["low"] < main["value"] < main["high"] and main["lower_is_better"]
    beside = {rival["name"]: rival for rival in main["rivals"]}
    assert {"from scratch, last step", "ridge on band powers", "constant, training mean"} <= set(beside)
    assert all(beside[name]["value"] == pytest.approx(found.scores[name]) for name in beside)
    assert [rival["name"] for rival in last["rivals"]] == ["from scratch, last step"], "equal steps only"
    assert len(found.subjects) == len(target) == len(found.prediction)
