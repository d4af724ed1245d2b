"""JEPA's checkpoints as encoders: all weights, the latents, taken by decoding as it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.decoding.models.own_models import own_model
from nbkit.neuro.jepa.decoding_encoder import encoder_for_decoding
from nbkit.neuro.nn.lora import add_lora, dead_adapters, lora_parameters, merge_lora, quantise_4bit
from tests.neuro.jepa.training import Windows, made, train
from tests.neuro.labram.training import CH_NAMES


@pytest.fixture
def checkpoint(tmp_path):
    module = made()
    train(module, Windows(), 2).save_checkpoint(tmp_path / "pretrain.ckpt")
    return module, tmp_path / "pretrain.ckpt"


def test_an_encoder_is_the_checkpoints_network(checkpoint):
    module, path = checkpoint
    encoder = encoder_for_decoding(path)
    assert (encoder.n_times, encoder.sfreq, encoder.ch_names, encoder.dim) == (40, 20.0, CH_NAMES, 96)
    count = len(module.encoder.state_dict())
    assert encoder.weights == f"{count} of {count} weights from pretrain.ckpt"
    windows = torch.stack([sample["window"] for sample in Windows().samples[:3]])
    with torch.no_grad():
        truth = module.encoder.eval()(windows)
    model = own_model(encoder)
    prepared = model.prepare(windows.numpy()[:, ::-1], CH_NAMES[::-1], 20.0)
    np.testing.assert_allclose(model.embed(prepared), truth, atol=1e-5)


@pytest.mark.parametrize("bits", [32, 4])
def test_adapters_go_into_its_mamba_blocks_and_its_pooling(checkpoint, bits):
    model = own_model(encoder_for_decoding(checkpoint[1]))
    x = torch.stack([sample["window"] for sample in Windows().samples[:6]])
    decoder = model.with_head(2)
    if bits == 4:
        pytest.importorskip("bitsandbytes")
        quantise_4bit(decoder)
    report = add_lora(decoder, model.lora_targets(), r=2)
    assert len(report.adapters) == 2 * 2 * model.module.encoder.settings.layers + 4
    decoder.head.requires_grad_(True)
    optimiser = torch.optim.SGD([p for p in decoder.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        decoder(x).square().sum().backward()
        assert dead_adapters(decoder) == []
        optimiser.step()
    assert all(p.grad.any() for p in lora_parameters(decoder).values())
    with torch.no_grad():
        after = decoder(x)
        merge_lora(decoder)
        torch.testing.assert_close(decoder(x), after, atol=1e-4, rtol=1e-4)


def test_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        encoder_for_decoding(tmp_path / "x.ckpt")
