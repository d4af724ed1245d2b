"""The encoder's shapes, its blocks of latents, and what each window may see."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from nbkit.neuro.jepa.encoder import (
    BLOCKS,
    EVENT,
    KIND,
    STATE,
    TRAIT,
    Encoder,
    EncoderSettings,
    pretrained_encoder,
)

TINY = replace(EncoderSettings.smoke(), n_chans=4, fourier_dim=8, dim=16, d_state=4)


def made(settings=TINY) -> Encoder:
    torch.manual_seed(0)
    return Encoder(settings)


def test_defaults_are_the_seeds():
    s = EncoderSettings()
    assert (s.n_chans, s.fourier_dim, s.fourier_layers, s.fmax) == (129, 64, 2, 50.0)
    assert (s.dim, s.layers, s.d_state, s.d_conv, s.expand, s.heads) == (64, 4, 16, 4, 2, 4)
    encoder = Encoder(s)
    assert [c.modes for c in encoder.fourier.spectral] == [50, 50]
    assert len(encoder.time.forwards) == len(encoder.time.backwards) == 4
    assert encoder(torch.randn(2, 129, 100)).shape == (2, 96)


def test_the_blocks_share_out_all_latents():
    assert [(b.start, b.stop) for b in (TRAIT, STATE, EVENT)] == [(0, 24), (24, 60), (60, 96)]
    assert sum(b.stop - b.start for b in BLOCKS.values()) == Encoder.dim


@pytest.mark.parametrize("n_times", [1, 50, 100, 200, 401])
def test_any_length_goes_in(n_times):
    encoder = made()
    windows = 20 * torch.randn(3, 4, n_times)
    assert encoder(windows).shape == (3, 96) and encoder.sequence(windows).shape == (3, n_times, 96)


def test_windows_of_a_batch_are_strangers_and_every_sample_counts():
    encoder = made().eval()
    windows = 20 * torch.randn(3, 4, 100)
    torch.testing.assert_close(encoder(windows)[1:2], encoder(windows[1:2]), rtol=1e-5, atol=1e-6)
    windows.requires_grad_()
    encoder(windows)[0].square().sum().backward()
    assert (windows.grad[0].abs().sum(0) > 0).all() and windows.grad[1:].abs().sum() == 0


def test_pooling_is_attention_of_the_mean_step():
    encoder = made().eval()
    windows = 20 * torch.randn(2, 4, 30)
    steps = encoder.steps(windows)
    p = encoder.pool
    q, k, v = (
        (x @ w.T + b).unflatten(-1, (4, 4)).transpose(1, 2)
        for x, w, b in zip((steps.mean(1, keepdim=True), steps, steps), p.in_proj_weight.chunk(3),
                           p.in_proj_bias.chunk(3), strict=True)
    )  # fmt: skip
    pooled = ((q @ k.transpose(-1, -2) / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(encoder(windows), encoder.out(p.out_proj(pooled))[:, 0], rtol=1e-4, atol=1e-5)


def test_every_weight_learns():
    encoder = made()
    encoder(20 * torch.randn(3, 4, 100)).square().sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"takes \(batch, 4, time\)"):
        made()(torch.randn(2, 5, 100))


def test_a_checkpoints_encoder_comes_back_whole_or_not_at_all(tmp_path):
    encoder = made()
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    made_of = {"encoder": asdict(TINY), "settings": {}, "sfreq": 100.0}
    torch.save({"state_dict": {**weights, "predictors.x": torch.ones(1)}, KIND: made_of}, tmp_path / "a.ckpt")
    again, report = pretrained_encoder(tmp_path / "a.ckpt")
    windows = torch.randn(2, 4, 100)
    assert report.matched == report.total == len(weights) and torch.equal(again(windows), encoder(windows))
    weights.pop("encoder.out.bias")
    torch.save({"state_dict": weights, KIND: made_of}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="1 missing"):
        pretrained_encoder(tmp_path / "b.ckpt")
