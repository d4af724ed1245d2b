"""Finetuning: all pretrained weights or none, scores of the whole set, nothing learned where nothing is planted."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.challenge.metrics import nrmse
from nbkit.neuro.labram.finetune import FinetuneSettings, Regressor, layer_of
from nbkit.neuro.training.optimization import make_optimizer
from nbkit.neuro.training.regression import score_rows
from nbkit.neuro.training.window_module import predict
from tests.neuro.labram.test_pretrain import made as made_student
from tests.neuro.labram.training import Windows, train

TINY = replace(FinetuneSettings.smoke(), patch=20, dim=16, heads=2, depth=2, steps=150, batch_size=8)


def made(data, settings=TINY, **more) -> Regressor:
    lightning.seed_everything(1, verbose=False)
    return Regressor.for_data(settings, data, **more)


@pytest.mark.parametrize("coupled", [True, False])
def test_what_is_planted_is_learned_and_nothing_else(coupled):
    data = Windows(count=160, coupled=coupled)
    logged = train(made(data), data, 150).callback_metrics
    assert (logged["val_nrmse"] < 0.8) if coupled else (logged["val_nrmse"] > 0.97)


def test_an_untrained_model_predicts_the_training_mean():
    data = Windows()
    predicted, true = predict(made(data), data.val_dataloader())
    torch.testing.assert_close(predicted, torch.full_like(true, data.target_scale()[0]), atol=1e-2, rtol=0)


def test_nrmse_is_the_whole_sets_not_the_batches():
    data = Windows(count=52, batch_size=5)  # 13 windows in batches of 5, 5 and 3
    module = made(data)
    logged = train(module, data, 7).callback_metrics
    predicted, true = (values.double().numpy() for values in predict(module, data.val_dataloader()))
    known = nrmse(true, predicted)
    assert float(logged["val_nrmse"]) == pytest.approx(known, rel=1e-5)
    rows = {row["name"]: row for row in score_rows([{k: float(v) for k, v in logged.items()}])}
    assert rows["val_nrmse"]["baseline"] == 1.0
    assert float(logged["val_nrmse_training_mean"]) == pytest.approx(
        np.sqrt(np.mean((data.target_scale()[0] - true) ** 2)) / true.std(), rel=1e-5
    )


def test_every_weight_of_the_network_comes_from_pretraining(tmp_path):
    data = Windows()
    student = made_student()
    train(student, data, 3).save_checkpoint(tmp_path / "pretrain-last.ckpt")
    module = made(data, replace(TINY, depth=5, dim=32), pretrained=tmp_path / "pretrain-last.ckpt")
    assert module.settings.depth == 2 and module.settings.dim == 16  # the checkpoint's, not the settings'
    assert module.loaded.matched == module.loaded.total == len(module.backbone.state_dict())
    assert "of" in str(module.loaded) and "pretrain-last.ckpt" in str(module.loaded)
    for name, value in student.student.state_dict().items():
        assert torch.equal(module.backbone.state_dict()[name], value), name
    held = torch.load(tmp_path / "pretrain-last.ckpt", weights_only=True)
    held["state_dict"].pop("student.norm.weight")
    torch.save(held, tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match="1 missing"):
        made(data, pretrained=tmp_path / "less.ckpt")
    assert "random" in str(made(data).loaded)


def test_a_checkpoint_holds_the_whole_module(tmp_path):
    data = Windows()
    module = made(data)
    train(module, data, 5).save_checkpoint(tmp_path / "challenge1-best.ckpt")
    again = Regressor.from_checkpoint(tmp_path / "challenge1-best.ckpt").eval()
    windows = torch.stack([sample["window"] for sample in data.val])
    with torch.no_grad():
        torch.testing.assert_close(again(windows), module.eval()(windows))
        assert again(windows).shape == (len(windows), 1)
    assert again.target_deviation > 0 and again.loaded.matched == again.loaded.total


def test_rates_fall_from_the_head_down():
    data = Windows()
    module = made(data, replace(TINY, layer_decay=0.5))
    optimizer = make_optimizer(module, module.settings, lambda name: layer_of(name, 2), 3)["optimizer"]
    warm = 1 / module.settings.warmup_steps
    rate = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {"head.weight": 1, "backbone.norm.weight": 1, "backbone.blocks.1.mlp.fc1.weight": 0.5,
                "backbone.blocks.0.attn.qkv.weight": 0.25, "backbone.cls_token": 0.125,
                "backbone.patch_embed.conv1.weight": 0.125}  # fmt: skip
    weights = dict(module.named_parameters())
    for name, share in expected.items():
        assert rate[id(weights[name])] == pytest.approx(TINY.lr * share), name
    assert len(rate) == len(weights)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["initial_lr"] * warm)


def test_a_missing_target_is_refused_by_its_subject():
    data = Windows(count=32)
    data.samples[9]["target"] = float("nan")
    module = Regressor(TINY, data.ch_names, 20.0)
    with pytest.raises(ValueError, match="subject 1 has no target"):
        train(module, data, 4)
    with pytest.raises(ValueError, match="do not differ"):
        Regressor(TINY, data.ch_names, 20.0, (1.0, 0.0))


def test_defaults_are_the_seeds():
    s = FinetuneSettings()
    assert (s.batch_size, s.epochs, s.depth, s.dim, s.heads, s.layer_decay) == (512, 100, 12, 200, 10, 0.65)
