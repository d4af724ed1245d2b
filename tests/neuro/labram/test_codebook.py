"""The codebook's training: its loss falls, its scores are the set's, its checkpoint is all of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import lightning
import pytest
import torch

from nbkit.neuro.labram.codebook import Codebook, CodebookSettings, code_use, score_rows
from nbkit.neuro.training.optimization import counted
from tests.neuro.labram.training import Windows, train

TINY = replace(
    CodebookSettings.smoke(), patch=20, dim=16, heads=2, encoder_depth=1, codebook_size=12, code_dim=6, steps=60
)


def made(data, settings=TINY) -> Codebook:
    lightning.seed_everything(1, verbose=False)
    return Codebook.for_data(settings, data)


def whole(module, samples) -> torch.Tensor:
    with torch.no_grad():
        return module(torch.stack([sample["window"] for sample in samples]))


@pytest.mark.train
def test_the_loss_falls_and_codes_carry_the_windows():
    data = Windows(count=240, batch_size=16)
    module = made(data, replace(TINY, steps=400, lr=8e-3, decay=0.8))
    module.eval()
    before = float(whole(module, data.val).loss)
    trainer = train(module, data, 400)
    logged = trainer.callback_metrics
    assert logged["val_tok_loss"] < 0.9 * before
    assert logged["val_amplitude_loss"] < 0.9 * logged["val_amplitude_loss_swapped"]
    rows = {row["name"]: row for row in score_rows([{k: float(v) for k, v in logged.items()}, {"tok_loss": 1.0}])}
    assert rows["val_tok_loss"]["baseline"] == 2.0 and rows["val_perplexity"]["value"] > 1 and score_rows([]) == []


def test_validation_is_that_of_the_whole_set():
    data = Windows(count=40, batch_size=4)  # ten windows in batches of 4, 4 and 2
    module = made(data)
    logged = train(module, data, 2, val_check_interval=2).callback_metrics
    module.eval()
    out = whole(module, data.val)
    for name, value in (("tok", out.loss), ("amplitude", out.amplitude), ("phase", out.phase), ("quant", out.quant)):
        assert float(logged[f"val_{name}_loss"]) == pytest.approx(float(value), rel=1e-4), name
    counts = torch.bincount(out.indices.flatten(), minlength=12)
    assert int(logged["val_unused_codes"]) == int((counts == 0).sum())
    assert torch.equal(code_use(module, data.val_dataloader()), counts.float())


def test_a_killed_training_resumes_bit_for_bit(tmp_path):
    data = Windows(count=64)
    settings = replace(TINY, codebook_size=100, restart_below=0.0)  # k-means gathers vectors in the first two batches
    straight = made(data, settings)
    train(straight, data, 12, val_check_interval=6)
    cut = made(data, settings)
    train(cut, data, 6).save_checkpoint(tmp_path / "cut.ckpt")
    lightning.seed_everything(99, verbose=False)
    again = Codebook.for_data(settings, data)
    train(again, data, 12, checkpoint=tmp_path / "cut.ckpt", val_check_interval=6)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.tokenizer.quantize.ready


def test_a_checkpoint_holds_the_whole_module(tmp_path):
    data = Windows()
    module = made(data)
    train(module, data, 3).save_checkpoint(tmp_path / "a.ckpt")
    again = Codebook.from_checkpoint(tmp_path / "a.ckpt")
    assert again.settings == module.settings and again.ch_names == data.ch_names and again.sfreq == 20.0
    assert again.tokenizer.fingerprint() == module.tokenizer.fingerprint()
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)
    held["state_dict"].pop("tokenizer.encode_task_layer.0.weight")
    torch.save(held, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=r"matches \d+ of \d+ weights: 1 missing"):
        Codebook.from_checkpoint(tmp_path / "b.ckpt")
    torch.save({"labram_pretrain": {"sfreq": 20.0}, "state_dict": {}}, tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match="holds labram_pretrain, not labram_codebook"):
        Codebook.from_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(FileNotFoundError, match="run the phase"):
        Codebook.from_checkpoint(tmp_path / "none.ckpt")


def test_a_window_with_nan_is_refused_by_its_subject():
    data = Windows(count=32)
    data.samples[10]["window"][2, 5] = float("nan")
    with pytest.raises(ValueError, match="subject 1 has samples that are NaN"):
        train(made(data), data, 4)


@pytest.mark.parametrize("name", ["full", "mini", "published", "labram_hub", "free", "smoke"])
def test_presets_are_json_and_count_steps(name):
    settings = getattr(CodebookSettings, name)()
    again = json.loads(json.dumps(asdict(settings)))
    assert CodebookSettings(**{**again, "betas": tuple(again["betas"])}) == settings
    steps = counted(settings, 10).steps
    assert steps == (settings.steps or 10 * settings.epochs)


def test_defaults_are_the_seeds_and_the_published_are_the_papers():
    s = CodebookSettings()
    assert (s.encoder_depth, s.decoder_depth, s.dim, s.heads, s.codebook_size, s.code_dim) == (24, 3, 200, 10, 8192, 32)
    assert (s.lr, s.min_lr, s.weight_decay, s.betas, s.grad_clip) == (1e-4, 1e-5, 0.05, (0.9, 0.95), 1.0)
    assert (s.decay, s.beta, s.restart_below, s.epochs, s.warmup_epochs, s.patience_epochs) == (0.99, 1, 0, 200, 5, 20)
    assert s.batch_size == 128
    p = CodebookSettings.published()
    assert (p.encoder_depth, p.code_dim, p.lr, p.betas, p.weight_decay) == (12, 64, 5e-5, (0.9, 0.99), 1e-4)
    assert CodebookSettings.labram_hub().patch == 200


def test_the_seeds_full_size_builds_and_gives_258_tokens():
    from nbkit.neuro.labram.channels import EGI_129

    with torch.device("meta"):
        module = Codebook(replace(CodebookSettings(), steps=1), EGI_129, 100.0)
        out = module.tokenizer.encode(torch.empty(1, 129, 200), torch.empty(129, dtype=torch.long))
    assert out.shape == (1, 258, 32)
