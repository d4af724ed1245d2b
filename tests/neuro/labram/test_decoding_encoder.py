"""LaBraM's checkpoints as encoders: all weights, the mean of the tokens, taken by decoding as it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.decoding.models.own_models import own_model
from nbkit.neuro.labram.backbone import cut_patches
from nbkit.neuro.labram.decoding_encoder import encoder_for_decoding
from nbkit.neuro.nn.lora import add_lora, dead_adapters
from tests.neuro.labram.test_finetune import made as made_regressor
from tests.neuro.labram.test_pretrain import made as made_student
from tests.neuro.labram.training import CH_NAMES, Windows, train


@pytest.mark.parametrize("kind", ["pretrained", "finetuned"])
def test_an_encoder_is_the_checkpoints_network(kind, tmp_path):
    data = Windows()
    module = made_student() if kind == "pretrained" else made_regressor(data)
    train(module, data, 2).save_checkpoint(tmp_path / "x.ckpt")
    network = module.student if kind == "pretrained" else module.backbone
    encoder = encoder_for_decoding(tmp_path / "x.ckpt", window=2.0)
    assert (encoder.n_times, encoder.sfreq, encoder.ch_names) == (40, 20.0, CH_NAMES)
    count = len(network.state_dict())
    assert encoder.weights == f"{count} of {count} weights from x.ckpt"
    windows = torch.stack([sample["window"] for sample in data.samples[:3]])
    with torch.no_grad():
        truth = network.eval()(cut_patches(windows, network.patch), encoder.rows)[:, 1:].mean(1)

    model = own_model(encoder)
    assert not model.random
    prepared = model.prepare(windows.numpy()[:, ::-1], CH_NAMES[::-1], 20.0)
    np.testing.assert_allclose(model.embed(prepared), truth, atol=1e-5)
    decoder = model.with_head(2)
    report = add_lora(decoder, model.lora_targets(), r=2)
    decoder(torch.from_numpy(prepared.array)).square().sum().backward()
    assert len(report.adapters) == 2 * len(network.blocks) and dead_adapters(decoder) == []


def test_refuses_other_files_and_lengths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        encoder_for_decoding(tmp_path / "x.ckpt", 2.0)
    data = Windows()
    train(made_student(), data, 1).save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(
        ValueError, match=r"Windows of 1.5 s are 30 samples at 20 Hz, patches have 20; .* multiple of 1 s"
    ):
        encoder_for_decoding(tmp_path / "x.ckpt", 1.5)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not labram_pretrain"):
        encoder_for_decoding(tmp_path / "other.ckpt", 2.0)
