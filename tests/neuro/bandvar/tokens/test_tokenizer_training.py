"""Tokenizer training: what is known is learned, scores are those of the whole set, and state survives a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.coding_scores import bits_a_window, coding_rows
from nbkit.neuro.bandvar.tokens.tokenizer import single_bands
from nbkit.neuro.bandvar.tokens.tokenizer_training import (
    TokenizerSettings,
    TokenizerTraining,
    flipped,
    mean_perplexity,
    tokenizer_scores,
    uses_of,
)

TINY = replace(TokenizerSettings.smoke(), codes=16, batch_size=8, lr=2e-3, max_steps=60, flips=False)


def fit(module, data, steps):
    lightning.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    ).fit(module, datamodule=data)  # fmt: skip
    return module


@pytest.fixture
def data(write_recording):
    """Windows of one of four waveforms: two bits a window are all there is to know."""
    time = np.arange(40) / 100

    def shape(sign, phase):
        tones = [a * np.sin(2 * np.pi * f * time + phase) for f, a in ((2.5, 40), (6, 9), (12, 5))]
        return sign * np.stack(tones)[:, None] * np.ones((1, 4, 1))

    shapes = [shape(sign, phase) for sign in (1, -1) for phase in (0, 1.5)]

    def levels(seed):
        draws = np.random.default_rng(seed)
        bands = np.stack([shapes[i] for i in draws.integers(4, size=24)]) + 0.3 * draws.normal(size=(24, 3, 4, 40))
        return np.cumsum(bands, axis=1)

    return BandData([write_recording(run=str(r), levels=levels(r)) for r in range(1, 6)], batch_size=8)


@pytest.mark.train
def test_what_there_is_to_know_is_kept_in_tokens_and_training_refines_it(data):
    lightning.seed_everything(0, verbose=False)
    module = TokenizerTraining.for_data(TINY, data)
    before = tokenizer_scores(module, data.val_dataloader())
    fit(module, data, TINY.max_steps)
    after = tokenizer_scores(module, data.val_dataloader())
    assert before["val_bands"] < 0.3 and after["val_bands"] < before["val_bands"]
    assert after["val_r2"] > 0.9 and 1 < after["val_perplexity"] <= after["val_codes_used"] <= 16
    rows = {row["name"]: row for row in coding_rows(module, data)}
    assert rows["r2"]["value"] == pytest.approx(after["val_r2"], abs=1e-5)
    assert rows["r2_theta"]["value"] == pytest.approx(after["val_r2_theta"], abs=1e-5)
    assert rows["bits_a_window"]["value"] == bits_a_window(module) == sum(module.tokenizer.lengths) * 4
    assert str(int(bits_a_window(module))) in rows["r2"]["baseline_is"]


def test_the_use_of_codes_is_counted_by_token():
    tokens = torch.tensor([[0, 2], [1, 2], [0, 2], [1, 2]])
    counts = uses_of(tokens, 3)
    assert counts.tolist() == [[2, 2, 0], [0, 0, 4]]
    assert mean_perplexity(counts) == pytest.approx(1.5)  # two codes used alike, and one code


def test_losses_are_the_sheets(data):
    torch.manual_seed(0)
    module = TokenizerTraining.for_data(TINY, data).eval()
    levels = torch.from_numpy(data.val_dataset.stack(6))
    with torch.no_grad():
        losses, decoded = module.losses(levels)
        tokens = module.tokenizer.encode(levels)
        bands = module.tokenizer.decode_sum(module.tokenizer.quantizer.partial_sums(tokens)[-1], 2)
    true = single_bands(levels)
    power = torch.tensor(data.scale) ** 2
    by_band = torch.stack([F.mse_loss(bands[:, b], true[:, b]) / power[b] for b in range(3)])
    torch.testing.assert_close(losses["bands"], by_band.mean())
    torch.testing.assert_close(losses["waveform"], F.mse_loss(decoded, levels[:, -1]) / power.sum())
    torch.testing.assert_close(decoded, module.tokenizer.decode(tokens)[:, -1])


def test_scores_in_batches_are_those_at_once(data):
    torch.manual_seed(0)
    module = TokenizerTraining.for_data(TINY, data).eval()
    levels = data.val_dataset.stack()
    made = module.tokenizer.decode(module.tokenizer.encode(torch.from_numpy(levels))).numpy()
    scores = tokenizer_scores(module, data.val_dataloader())
    for band, name in enumerate(("1-4Hz", "theta", "alpha")):
        error = ((made[:, band] - levels[:, band]) ** 2).mean() / (levels[:, band] ** 2).mean()
        assert scores[f"val_r2_to_{name}"] == pytest.approx(1 - error, abs=1e-4)


def test_a_checkpoint_holds_the_whole_tokenizer(data, tmp_path):
    lightning.seed_everything(0, verbose=False)
    module = fit(TokenizerTraining.for_data(TINY, data), data, 45)
    assert module.missing.weight > 0
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert json.loads(json.dumps(checkpoint["band_tokenizer"]))["settings"] == asdict(TINY)
    again = TokenizerTraining.from_checkpoint(tmp_path / "a.ckpt")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())
    levels = torch.from_numpy(data.val_dataset.stack(4))
    assert torch.equal(again.tokenizer.encode(levels), module.eval().tokenizer.encode(levels))
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="not band_tokenizer; pass"):
        TokenizerTraining.from_checkpoint(tmp_path / "b.ckpt")


def test_flips_keep_the_spectrum_and_the_bands():
    torch.manual_seed(0)
    levels = torch.randn(64, 3, 2, 40).cumsum(1)
    turned = flipped(levels)
    torch.testing.assert_close(torch.fft.rfft(turned).abs(), torch.fft.rfft(levels).abs(), atol=1e-4, rtol=1e-4)
    kinds = set()
    for one, other in zip(levels, turned, strict=True):
        kinds |= {k for k, v in {"as is": one, "sign": -one, "time": one.flip(-1), "both": -one.flip(-1)}.items()
                  if torch.equal(v, other)}  # fmt: skip
    assert kinds == {"as is", "sign", "time", "both"}
