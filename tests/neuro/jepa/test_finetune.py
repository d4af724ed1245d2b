"""Finetuning: the heads' shapes, all pretrained weights or none, and nothing learned where nothing is planted."""

from __future__ import annotations

from dataclasses import asdict, replace

import lightning
import pytest
import torch

import nbkit
from nbkit.neuro.challenge.metrics import nrmse
from nbkit.neuro.jepa.encoder import KIND, TRAIT, Encoder, EncoderSettings
from nbkit.neuro.jepa.finetune import CHALLENGES, Challenge2Settings, ComparedRegressor, FinetuneSettings, Regressor
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, write_synthetic_hbn
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.window_module import predict
from tests.neuro.jepa.factor_windows import FactorWindows
from tests.neuro.labram.training import train

TINY = replace(FinetuneSettings.smoke(), batch_size=8)
TINY2 = replace(Challenge2Settings.smoke(), batch_size=8)
BOTH = pytest.mark.parametrize("settings", [TINY, TINY2], ids=["challenge1", "challenge2"])


def made(data, settings=TINY, cls=Regressor, **more):
    lightning.seed_everything(1, verbose=False)
    return cls.for_data(settings, data, **more)


def pretrained(folder, **sizes):
    """A checkpoint as pretraining leaves it: the encoder among more."""
    lightning.seed_everything(7, verbose=False)
    settings = EncoderSettings(**{"n_chans": 4, "sfreq": 20.0, "fmax": 10.0, "dim": 16, "layers": 1, **sizes})
    weights = {"encoder." + name: value for name, value in Encoder(settings).state_dict().items()}
    weights["predictors.trait.0.weight"] = torch.ones(3)
    names = list(FactorWindows.ch_names)
    about = {"encoder": asdict(settings), "settings": {}, "sfreq": settings.sfreq, "ch_names": names}
    content = {KIND: about, "state_dict": weights}
    torch.save(content, folder / "jepa.ckpt")
    return folder / "jepa.ckpt", weights


@pytest.mark.parametrize("coupled", [True, False])
def test_what_is_planted_is_learned_and_nothing_else(coupled):
    data = FactorWindows(count=160, coupled=coupled)
    logged = train(made(data), data, 50).callback_metrics
    assert (logged["val_nrmse"] < 0.8) if coupled else (logged["val_nrmse"] > 0.95)


@BOTH
def test_a_new_model_predicts_the_training_mean_in_its_unit(settings):
    data = FactorWindows()
    predicted, true = predict(made(data, settings), data.val_dataloader())
    torch.testing.assert_close(predicted, torch.full_like(true, data.target_scale()[0]), atol=2e-2, rtol=0)


def test_heads_are_the_seeds():
    data = FactorWindows(count=32)
    first, second = made(data), made(data, TINY2)
    assert [layer.weight.shape for layer in (first.head[0], first.head[2])] == [(64, 96), (2, 64)]
    assert [layer.weight.shape for layer in (second.head[0], second.head[2])] == [(32, 24), (4, 32)]
    assert CHALLENGES[2].targets == ("p_factor", "internalizing", "target", "attention")
    torch.nn.init.normal_(second.head[-1].weight)
    windows = torch.stack([sample["window"] for sample in data.val])
    latents = second.encoder(windows)
    torch.testing.assert_close(second.outputs(windows), second.head(latents[:, TRAIT]))  # the trait's latents alone
    scored = second.outputs(windows)[:, 2] * second.target_deviation[2] + second.target_mean[2]
    torch.testing.assert_close(second(windows)[:, 0], scored)


def test_defaults_are_the_seeds():
    one, two = FinetuneSettings(), Challenge2Settings()
    assert (one.lr, one.weight_decay, one.batch_size, one.warmup_epochs, one.epochs) == (5e-4, 1e-5, 512, 5, 100)
    assert (two.challenge, two.epochs) == (2, 150)
    assert replace(two, challenge=1, epochs=100) == Challenge2Settings(1, epochs=100)
    for preset in ("full", "free", "smoke"):  # a notebook finds a class's own presets alone
        own, other = (nbkit.settings(cls, preset=preset) for cls in (Challenge2Settings, FinetuneSettings))
        differ = {name for name, value in asdict(own).items() if value != asdict(other)[name]}
        assert own.challenge == 2 and differ <= {"challenge", "epochs"}
    with pytest.raises(ValueError, match="challenge=3"):
        FinetuneSettings(challenge=3)


def test_every_weight_of_the_encoder_comes_from_pretraining(tmp_path):
    data = FactorWindows(count=32)
    path, weights = pretrained(tmp_path)
    module = made(data, replace(TINY, encoder_preset="full"), ComparedRegressor, pretrained=path)
    assert module.encoder.settings.dim == 16  # the checkpoint's, not the settings'
    assert module.loaded.matched == module.loaded.total == len(module.encoder.state_dict()) and "jepa.ckpt" in str(
        module.loaded
    )
    for name, value in module.encoder.state_dict().items():
        assert torch.equal(weights["encoder." + name], value), name
    rival = module.rivals["scratch"]
    assert not torch.equal(rival.encoder.out.weight, module.encoder.out.weight)
    content = torch.load(path, weights_only=True)
    content[KIND]["ch_names"] = ["E1", "E9", "E5", "Cz"]
    torch.save(content, tmp_path / "others.ckpt")
    with pytest.raises(ValueError, match="in another order, or on others: E9 where the windows have E5"):
        made(data, pretrained=tmp_path / "others.ckpt")
    content[KIND]["ch_names"] = list(data.ch_names)
    content["state_dict"].pop("encoder.out.bias")
    torch.save(content, tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match="1 missing"):
        made(data, pretrained=tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match="The encoder is for 129 channels at 100 Hz"):
        made(data, pretrained=pretrained(tmp_path, n_chans=129, sfreq=100.0)[0])


@BOTH
def test_a_checkpoint_holds_the_whole_module(settings, tmp_path):
    data = FactorWindows(count=48)
    module = made(data, settings, ComparedRegressor)
    train(module, data, 4).save_checkpoint(tmp_path / "best.ckpt")
    again = Regressor.from_checkpoint(tmp_path / "best.ckpt").eval()
    windows = torch.stack([sample["window"] for sample in data.val])
    with torch.no_grad():
        torch.testing.assert_close(again(windows), module.eval()(windows))
    assert again.n_times == 40 and again.settings.challenge == settings.challenge
    torch.save({"state_dict": {}, "labram_finetune": {"sfreq": 1.0}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="holds labram_finetune, not jepa_finetune"):
        Regressor.from_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.train
@pytest.mark.parametrize("challenge", [1, 2])
def test_synthetic_hbn_is_told_on_held_out_subjects_where_it_is_coupled(challenge, tmp_path):
    scores = {}
    for strength in (0.9, 0.0):
        name = ("response_time_strength", "externalizing_strength")[challenge - 1]
        world = SyntheticHBNSettings(
            subjects=30, n_chans=8, tasks=("contrastChangeDetection",), runs=1, trials=12, **{name: strength}
        )
        folder = tmp_path / str(strength)
        write_synthetic_hbn(folder, f"challenge{challenge}", world, world.tasks)
        settings = (TINY, TINY2)[challenge - 1]
        data = WindowData(
            folder, 16, crop=200, fractions=(0.6, 0.1, 0.3), may_miss=CHALLENGES[challenge].others
        )  # fmt: skip
        module = made(data, settings)
        train(module, data, settings.steps)
        predicted, true = predict(module, data.test_dataloader())
        scores[strength] = nrmse(true, predicted)
    assert scores[0.9] < 0.85
    assert scores[0.0] > 0.95
