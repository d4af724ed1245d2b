"""The objective by hand, who gets gradients, which steps are masked, and a loss that falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.jepa.encoder import EVENT, STATE, TRAIT, EncoderSettings, pretrained_encoder
from nbkit.neuro.jepa.pretrain import (
    JEPA,
    MONITOR,
    OBJECTIVES,
    PretrainSettings,
    monitors,
    pretraining_data,
    score_rows,
)
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, write_synthetic_hbn
from tests.neuro.jepa.training import ENCODER, SETTINGS, Windows, made, train


def batch(count=6):
    return torch.stack([sample["window"] for sample in Windows().samples[:count]])


def test_defaults_are_the_seeds():
    s = PretrainSettings()
    assert s == PretrainSettings.full() and s.encoder == EncoderSettings()
    assert s.weights == {
        "state": 1.0,
        "event": 0.5,
        "trait": 0.1,
        "stability": 0.5,
        "mask": 0.5,
        "variance": 0.0,
        "covariance": 0.0,
    }
    assert (s.mask_every, s.mask_ratio, s.latent_steps, s.ema, s.crop_s) == (5, 0.25, 1, 0.0, 2.0)
    assert (s.lr, s.weight_decay, s.grad_clip, s.batch_size) == (1e-4, 1e-4, 1.0, 64)
    assert (s.epochs, s.warmup_epochs, s.patience_epochs) == (200, 10.0, 25)
    other = PretrainSettings.ema_variance()
    assert other.ema > 0.9 and replace(other, **OBJECTIVES["seed"]) == s
    with pytest.raises(ValueError, match="seed, ema_variance, ema_vicreg"):
        s.aimed("else")


def test_predictors_are_the_seeds():
    predictors = made().predictors
    assert [(m.d_state, m.conv1d.kernel_size[0]) for m in (predictors.state[0], predictors.event[0])] == [
        (8, 3),
        (4, 2),
    ]
    assert [tuple(m.weight.shape) for m in (predictors.trait[0], predictors.trait[3])] == [(64, 24), (24, 64)]
    latents = torch.randn(2, 3, 96, requires_grad=True)
    for block in (TRAIT, STATE, EVENT):  # a block's guess reads its own latents alone
        (grad,) = torch.autograd.grad(predictors(latents)[..., block].square().sum(), latents)
        inside = torch.zeros(96, dtype=torch.bool)
        inside[block] = True
        assert (grad[..., inside] != 0).any() and (grad[..., ~inside] == 0).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_steps_loss_is_the_weighted_sum_written_out(objective, monkeypatch):
    module, windows = made(SETTINGS.aimed(objective)), batch()
    logged = {}
    monkeypatch.setattr(module, "log", lambda *a, **k: None)
    monkeypatch.setattr(module, "log_dict", lambda values, **k: logged.update(values))
    torch.manual_seed(3)
    loss = module.training_step({"window": windows}, 0)  # step 0 has the masked term
    past, future = module.encoder(windows[..., :20]), module.encoder(windows[..., 20:])
    guess = module.predictors(past[:, None])[:, 0]
    expected = 1.0 * F.mse_loss(guess[:, STATE], future[:, STATE]) + 0.5 * F.mse_loss(guess[:, EVENT], future[:, EVENT])
    expected = expected + 0.1 * F.mse_loss(guess[:, TRAIT], future[:, TRAIT])
    expected = expected + 0.5 * F.mse_loss(past[:, TRAIT], future[:, TRAIT])
    torch.manual_seed(3)
    order = torch.rand(6, 40).argsort(dim=1)
    kept = torch.ones(6, 40).scatter(1, order[:, :10], 0.0)  # a quarter of the time points
    expected = expected + 0.5 * F.mse_loss(module.encoder(windows * kept[:, None]), module.encoder(windows))
    if objective != "seed":  # at the start the slow target is the encoder itself
        spread = (past.var(0, correction=0) + 1e-4).sqrt()
        expected = expected + torch.relu(1 - spread).mean()
    if objective == "ema_vicreg":
        pairs = torch.cov(past.T).fill_diagonal_(0)
        expected = expected + 0.04 * pairs.square().sum() / 96
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    assert set(logged) >= {"loss_state", "loss_event", "loss_trait", "loss_stability", "loss_mask"}


def test_no_gradient_reaches_a_target():
    module, windows = made(), batch()
    terms, _, target = module.temporal(windows)
    assert not target.requires_grad
    half = windows[..., 20:].clone().requires_grad_()
    terms, _, _ = module.temporal(torch.cat([windows[..., :20], half], dim=-1))
    grads = {n: torch.autograd.grad(t, half, retain_graph=True, allow_unused=True)[0] for n, t in terms.items()}
    for name in ("state", "event", "trait"):
        assert grads[name] is None or not grads[name].any()
    assert grads["stability"].any()  # both sides of it learn


def test_the_masked_term_comes_every_fifth_step_and_nowhere_else(monkeypatch):
    module, asked = made(replace(SETTINGS, steps=12)), []
    masked = module.masked
    monkeypatch.setattr(module, "masked", lambda windows: asked.append(module.global_step) or masked(windows))
    train(module, Windows(count=96), 12)
    assert asked == [0, 5, 10]


def test_a_slow_target_follows_and_takes_no_gradient():
    module = made(replace(SETTINGS, steps=6).aimed("ema_variance"))
    before = {n: p.clone() for n, p in module.encoder.named_parameters()}
    train(module, Windows(count=64), 6)
    for name, slow in module.target.named_parameters():
        assert slow.grad is None and not slow.requires_grad
        fast = dict(module.encoder.named_parameters())[name]
        assert not torch.equal(slow, before[name]) and not torch.equal(slow, fast)
    assert sum(p.numel() for p in module.target.parameters()) == sum(p.numel() for p in module.encoder.parameters())


@pytest.mark.parametrize("latent_steps", [1, 5])
def test_every_weight_learns(latent_steps):
    module = made(replace(SETTINGS, latent_steps=latent_steps))
    terms, _, _ = module.temporal(batch())
    (sum(terms.values()) + module.masked(batch())).backward()
    silent = [n for n, p in module.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    # with one step nothing was before it: a Mamba block's decay has no state to act on
    assert [n for n in silent if "A_log" not in n] == []
    assert bool([n for n in silent if n.startswith("predictors")]) == (latent_steps == 1)


def test_validation_is_the_temporal_loss_alone_beside_its_own_variance():
    data, module = Windows(), made(replace(SETTINGS, steps=20).aimed("ema_variance"))
    logged = {name: float(value) for name, value in train(module, data, 20).callback_metrics.items()}
    parts = {"state": 1.0, "event": 0.5, "trait": 0.1, "stability": 0.5}
    assert logged[MONITOR] == pytest.approx(sum(w * logged[f"val_{n}"] for n, w in parts.items()), rel=1e-4)
    module.eval()
    with torch.no_grad():
        windows = torch.stack([sample["window"] for sample in data.val])
        variance = module.target(windows[..., 20:]).var(0, correction=0)
    trait = variance[TRAIT].mean()
    by_mean = variance[STATE].mean() + 0.5 * variance[EVENT].mean() + 0.1 * trait + 0.5 * 2 * trait
    assert logged["val_loss_by_mean"] == pytest.approx(float(by_mean), rel=1e-3)
    rows = {row["name"]: row for row in score_rows([{"step": 20, **logged}])}
    assert rows[MONITOR]["baseline"] == logged["val_loss_by_mean"] and score_rows([]) == []
    drawn = monitors()
    names = [*drawn["losses"], *(name for _, metrics, _ in drawn["panels"] for name in metrics)]
    assert {n for n in names if n.startswith("val_")} <= set(logged)


def test_a_loss_falls_and_a_checkpoint_gives_the_encoder_back(tmp_path):
    module, data = made(replace(SETTINGS, steps=60)), Windows()
    with torch.no_grad():
        before = float(sum(module.temporal(batch(48))[0].values()))
    trainer = train(module, data, 60)
    with torch.no_grad():
        assert float(sum(module.temporal(batch(48))[0].values())) < 0.7 * before
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    encoder, report = pretrained_encoder(tmp_path / "a.ckpt")
    assert report.matched == report.total and torch.equal(encoder(batch()), module.encoder(batch()))
    again = JEPA.from_checkpoint(tmp_path / "a.ckpt")
    assert again.settings == module.settings and torch.equal(again.encoder(batch()), module.encoder(batch()))


def test_a_collapse_is_said():
    module = made(replace(SETTINGS, steps=2))
    with torch.no_grad():
        module.encoder.out.weight.zero_()
    with pytest.warns(UserWarning, match="The latents have collapsed: effective rank"):
        train(module, Windows(), 2)


def test_windows_come_from_a_made_up_hbn_cropped_where_longer(tmp_path):
    world = replace(SyntheticHBNSettings.smoke(), subjects=4, n_chans=4, tasks=("RestingState",), seconds=10.0)
    paths = write_synthetic_hbn(tmp_path, "pretrain", world)
    data = pretraining_data(paths, SETTINGS, fractions=(0.5, 0.5, 0.0))
    assert data.n_times == 200 and pretraining_data(paths, replace(SETTINGS, crop_s=1.0)).n_times == 100
    module = JEPA.for_data(replace(SETTINGS, encoder=replace(ENCODER, fmax=50.0)), data)
    made_for = module.settings.encoder
    assert (made_for.n_chans, made_for.sfreq, made_for.fmax) == (4, 100.0, 50.0)
    assert module.temporal(data.train_dataset[0]["window"][None])[0]["state"].isfinite()
