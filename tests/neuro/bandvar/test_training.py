"""Training: known truths are learned, made-up ones are not, and a checkpoint holds the whole model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.baselines import one_step_scores, stage_pairs
from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.training import BandVAR, BandVARSettings, evaluate, score_rows

TINY = replace(BandVARSettings.smoke(), d_model=16, nhead=2, steps=150, batch_size=8, lr=5e-3, warmup_steps=5)


def fit(module, data, steps, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(module, datamodule=data)
    return trainer


def planted(seed, permuted=False, windows=40):
    """Windows whose every next band is the one before, turned by a fixed mix of channels and shifted by a sample."""
    draws = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(4, 4)) / 2
    first = 20 * draws.normal(size=(windows, 4, 32))
    second = first + np.roll(np.einsum("ij,wjt->wit", mix, first), 1, axis=-1)
    third = second + 0.5 * np.roll(second, -1, axis=-1)
    levels = np.stack([first, second, third], axis=1)
    if permuted:
        increments = np.diff(levels, axis=1, prepend=0)
        for stage in range(3):
            increments[:, stage] = increments[draws.permutation(windows), stage]
        levels = np.cumsum(increments, axis=1)
    return levels


def data_of(write_recording, permuted):
    return BandData([write_recording(run=str(r), levels=planted(r, permuted)) for r in range(1, 6)], batch_size=8)


def test_a_known_next_band_is_learned(write_recording):
    lightning.seed_everything(0, verbose=False)
    data = data_of(write_recording, permuted=False)
    module = BandVAR.for_data(TINY, data)
    fit(module, data, TINY.steps)
    assert evaluate(module, data.val_dataloader())["val_skill_persistence"] > 0.5


def test_a_next_band_of_another_window_is_not_learned(write_recording):
    lightning.seed_everything(0, verbose=False)
    data = data_of(write_recording, permuted=True)
    module = BandVAR.for_data(TINY, data)
    fit(module, data, TINY.steps)
    assert evaluate(module, data.val_dataloader())["val_skill_persistence"] < 0.02


@pytest.mark.parametrize("settings", [TINY, replace(TINY, residual=False, stage_embedding=False, balance_stages=False)])
def test_validation_scores_are_those_of_the_whole_set_at_once(write_recording, settings):
    torch.manual_seed(0)
    data = BandData([write_recording(run=r, windows=5, seed=int(r)) for r in ("1", "2", "3")], batch_size=2)
    module = BandVAR.for_data(settings, data).eval()
    torch.nn.init.normal_(module.model.output_projection.weight, std=0.1)
    levels = data.val_dataset.stack()
    with torch.no_grad():
        prediction = module.one_step(torch.from_numpy(levels)).numpy()
    known = one_step_scores(prediction, levels)
    scores = evaluate(module, data.val_dataloader())  # in batches of 2, 2 and 1
    for name in ("mse", "mse_persistence", "mse_zero", "skill_persistence", "skill_zero", "increment_r2"):
        assert scores[f"val_{name}"] == pytest.approx(known[name], rel=1e-5), name
    assert scores["val_skill_theta"] == pytest.approx(known["by_stage"][1]["skill_persistence"], rel=1e-5)
    assert scores["val_mse_all"] == pytest.approx(((prediction - levels) ** 2).mean(), rel=1e-5)


def test_one_step_sees_zeros_and_then_the_truth(write_recording):
    data = BandData([write_recording(run=r) for r in ("1", "2")])
    module = BandVAR.for_data(TINY, data).eval()  # residual and untrained: gives back what it is given
    levels = data.val_dataset.stack()
    with torch.no_grad():
        np.testing.assert_allclose(module.one_step(torch.from_numpy(levels)), stage_pairs(levels)[0], atol=1e-5)


def test_plain_loss_is_the_mean_squared_error_over_the_signals_power(write_recording):
    data = BandData([write_recording(run=r) for r in ("1", "2")])
    module = BandVAR.for_data(replace(TINY, balance_stages=False), data).eval()
    levels = torch.from_numpy(data.train_dataset.stack())
    with torch.no_grad():
        mse = (module.one_step(levels) - levels).square().mean()
        torch.testing.assert_close(module.loss(levels), mse / sum(s**2 for s in data.scale))


def test_logged_names_and_checkpoint(write_recording, tmp_path):
    lightning.seed_everything(0, verbose=False)
    data = BandData([write_recording(run=r) for r in ("1", "2", "3")], batch_size=4)
    module = BandVAR.for_data(TINY, data)
    trainer = fit(module, data, 4)
    logged = {"train_loss", "val_mse", "val_skill_persistence", "val_skill_zero", "val_increment_r2"}
    assert logged <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert json.loads(json.dumps(held["bandvar"]))["settings"] == asdict(TINY)
    again = BandVAR.from_checkpoint(tmp_path / "a.ckpt")
    x = torch.randn(2, 3, 4, 32)
    torch.testing.assert_close(again.eval().one_step(x), module.eval().one_step(x))
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="not bandvar; pass"):
        BandVAR.from_checkpoint(tmp_path / "b.ckpt")


def test_gradients_are_clipped_at_the_settings_norm(write_recording):
    data = BandData([write_recording(run=r) for r in ("1", "2")])
    norms = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *rest):
            norms.append(torch.sqrt(sum(p.grad.square().sum() for p in module.parameters() if p.grad is not None)))

    lightning.seed_everything(0, verbose=False)
    fit(BandVAR.for_data(replace(TINY, grad_clip=1e-3), data), data, 3, callbacks=[Watch()])
    assert norms and max(norms) <= 1.001e-3


def rate_at(settings):
    """Return the function of the step that multiplies the rate."""
    module = BandVAR(settings, 2, 8, [(1.0, 4.0)], [1.0])
    return module.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]


def test_the_rate_is_a_function_of_the_step():
    settings = replace(TINY, warmup_steps=10, steps=100)
    rates = [rate_at(settings)(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3) and max(rates) == rates[9] and rates[150] == pytest.approx(0.02)
    assert rate_at(BandVARSettings())(5) == 1.0


def test_rows_are_the_last_validation_beside_its_baselines():
    early = {"step": 10, "val_mse": 9.0, "val_mse_persistence": 4.0, "val_mse_zero": 8.0, "val_increment_r2": -1.0}
    late = {"step": 20, "val_mse": 3.0, "val_mse_persistence": 4.0, "val_mse_zero": 8.0, "val_increment_r2": 0.25}
    rows = {row["name"]: row for row in score_rows([early, late, {"step": 21, "train_loss": 0.1}])}
    assert (rows["val_mse"]["value"], rows["val_mse"]["baseline"], rows["val_mse"]["unit"]) == (3.0, 4.0, "uV^2")
    assert rows["val_mse_against_zero"]["baseline"] == 8.0
    assert rows["val_skill_persistence"]["value"] == 0.25 and rows["val_skill_zero"]["value"] == 0.625
    # Predicting zero leaves twice the increment's power: its R2 on the increment is 1 - 8 / 4.
    assert rows["increment_r2"]["value"] == 0.25 and rows["increment_r2_against_zero"]["baseline"] == -1.0
    assert all(row["baseline_is"] for row in rows.values()) and score_rows([{"step": 1}]) == []


@pytest.mark.parametrize("name", ["free", "demo", "smoke"])
def test_presets_are_json_and_build(name):
    settings = getattr(BandVARSettings, name)()
    assert BandVARSettings(**json.loads(json.dumps(asdict(settings)))) == settings
    BandVAR(settings, 8, 16, [(1, 4), (4, 8)], [1.0, 1.0])


def test_defaults_are_the_seeds():
    s = BandVARSettings()
    assert (s.d_model, s.nhead, s.num_layers, s.dropout, s.lr, s.weight_decay, s.grad_clip) == (
        256,
        8,
        4,
        0.1,
        1e-4,
        0,
        1,
    )
    assert not (s.residual or s.stage_embedding or s.balance_stages) and s.stem_taps == s.head_taps == 1


@pytest.mark.train
def test_a_real_recording_beats_persistence(eegbci_folder, tmp_path):
    from nbkit.neuro.signals import eeg
    from nbkit.neuro.signals.intake.cleaning import Cleaning
    from nbkit.neuro.signals.windows.shard_writing import write_signal
    from nbkit.neuro.signals.windows.windowing import Windowing, cut

    cleaning, windowing = Cleaning(), Windowing(2.0, 2.0)
    for row in eeg.recordings("eegbci", subjects=[1], runs=[3, 4, 11]):
        whole = eeg.load_recording(row, cleaning)
        made = cut(whole, windowing)
        few = dict(ch_names=whole.ch_names[::4], subject="1", run=row["run"])  # 16 of 64: seconds, not a minute
        cuts = {"windows": (made.starts, made.length, made.columns)}
        write_signal(tmp_path / row["key"], whole.signal[::4], sfreq=whole.sfreq, cuts=cuts, **few)
    lightning.seed_everything(2025, verbose=False)
    settings = replace(BandVARSettings.demo(), d_model=32, steps=100)
    data = BandData(tmp_path, settings.batch_size, limit_val=30)
    module = BandVAR.for_data(settings, data)
    fit(module, data, settings.steps, check_val_every_n_epoch=100)
    assert evaluate(module, data.val_dataloader())["val_skill_persistence"] > 0.01
