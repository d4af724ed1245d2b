"""The tokenizer: spectra by definition, flat channels, float32 under autocast, frozen means frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.labram.tokenizer import VQNSP, spectrum

ROWS = torch.tensor([1, 2, 129])


def tiny(**more) -> VQNSP:
    torch.manual_seed(0)
    return VQNSP(20, 1, 1, 16, 8, dim=20, heads=2, **more)


def test_targets_are_z_scored_spectra():
    windows = np.random.default_rng(0).normal(size=(2, 3, 2, 20))
    found = spectrum(torch.tensor(windows))
    bins = np.fft.fft(windows)
    amplitude, phase = np.abs(bins), np.angle(bins)
    phase[..., [0, 10]] = np.abs(phase[..., [0, 10]])  # of real numbers: 0 or pi
    for known, here in ((amplitude, found.amplitude), (phase, found.phase)):
        for window in range(2):
            z = (known[window] - known[window].mean()) / known[window].std(ddof=1)
            np.testing.assert_allclose(here[window], z.reshape(6, 20), atol=2e-4)


def test_sine_and_cosine_do_not_jump():
    patches = torch.randn(1, 1, 1, 20)
    found = spectrum(patches, sincos=True)
    *_, mean, deviation = found.moments
    sine, cosine = (found.phase * deviation + mean).chunk(2, dim=-1)
    known = torch.fft.fft(patches[:, 0])
    torch.testing.assert_close(torch.complex(cosine, sine), known / known.abs(), atol=1e-4, rtol=1e-4)
    assert tiny(sincos=True)(torch.randn(2, 3, 40), ROWS).loss.isfinite()


@pytest.mark.parametrize("level", [0.0, -3.0])
def test_a_flat_reference_channel_has_no_phase(level):
    windows = torch.randn(2, 3, 2, 20)
    windows[:, 2] = level
    found = spectrum(windows)
    *_, mean, deviation = found.moments
    angle = (found.phase * deviation + mean).unflatten(1, (3, 2))[:, 2]
    assert angle[..., 1:].abs().max() < 1e-5  # all but the constant itself
    assert found.amplitude.isfinite().all() and found.phase.isfinite().all()


def test_a_window_without_signal_is_all_zero_and_trains():
    found = spectrum(torch.zeros(1, 3, 2, 20))
    assert found.amplitude.abs().max() == 0 and found.phase.abs().max() == 0
    net = tiny().train()
    loss = net(torch.zeros(2, 3, 40), ROWS).loss
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_spectra_and_losses_are_float32_under_autocast(dtype):
    patches = 1e3 * torch.randn(2, 3, 2, 20)
    known = spectrum(patches)
    net = tiny().eval()
    with torch.autocast("cpu", dtype=dtype):
        found = spectrum(patches)
        out = net(torch.randn(2, 3, 40), ROWS)
        assert net.encode(torch.randn(2, 3, 40), ROWS).dtype == dtype  # the probe: autocast is on
    for a, b in zip(found[:2], known[:2], strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b)
    assert all(value.dtype == torch.float32 for value in out[:4])


def test_the_loss_is_commitment_plus_both_errors():
    net = tiny().eval()
    windows = 30 * torch.randn(4, 3, 40)
    out = net(windows, ROWS)
    torch.testing.assert_close(out.loss, out.quant + out.amplitude + out.phase)
    target = spectrum((windows / 100).unflatten(2, (2, 20)))
    codes = F.embedding(out.indices, net.quantize.weight)
    amplitude, phase = net.decode(codes, ROWS)
    torch.testing.assert_close(out.amplitude, (amplitude - target.amplitude).square().mean())
    torch.testing.assert_close(out.phase, (phase - target.phase).square().mean())
    torch.testing.assert_close(net.amplitude_loss(windows, out.indices, ROWS), out.amplitude)
    assert torch.equal(net.codes(windows, ROWS), out.indices)


def test_gradients_reach_the_encoder_through_the_codes():
    net = tiny().train()
    out = net(torch.randn(4, 3, 40), ROWS)
    out.amplitude.backward()
    assert net.encoder.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_a_frozen_tokenizer_stays_what_it_is():
    net = tiny().freeze()
    before = net.fingerprint()
    holder = torch.nn.ModuleList([net]).train()
    for _ in range(3):
        net(torch.randn(4, 3, 40), ROWS)
        net.codes(torch.randn(4, 3, 40), ROWS)
    assert not net.training and not net.quantize.training and holder.training
    assert net.fingerprint() == before and not any(p.requires_grad for p in net.parameters())
    awake = tiny().train()
    awake(torch.randn(4, 3, 40), ROWS)  # the probe: an unfrozen one does change
    assert awake.fingerprint() != before


def test_a_reconstruction_has_the_windows_amplitudes_where_the_decoder_is_perfect(monkeypatch):
    net = tiny().eval()
    windows = 40 * torch.randn(2, 3, 40)
    target = spectrum((windows / 100).unflatten(2, (2, 20)))
    monkeypatch.setattr(net, "decode", lambda vectors, rows: (target.amplitude, target.phase))
    torch.testing.assert_close(net.reconstruct(windows, ROWS), windows, atol=1e-3, rtol=1e-3)
    monkeypatch.setattr(net, "decode", lambda vectors, rows: (target.amplitude, torch.zeros_like(target.phase)))
    assert not torch.allclose(net.reconstruct(windows, ROWS), windows, atol=1.0)
    torch.testing.assert_close(net.reconstruct(windows, ROWS, own_phase=True), windows, atol=1e-3, rtol=1e-3)
