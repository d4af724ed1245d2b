"""Masked pretraining: each token guessed once, labels that nothing changes, losses that fall."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.labram.backbone import cut_patches
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings, score_rows
from nbkit.neuro.labram.tokenizer import VQNSP
from nbkit.neuro.nn import masking
from tests.neuro.labram.training import CH_NAMES, Windows, train

TINY = replace(PretrainSettings.smoke(), patch=20, dim=16, heads=2, depth=2, steps=60)


def tokenizer(seed: int = 3) -> VQNSP:
    torch.manual_seed(seed)
    made = VQNSP(20, 1, 1, 12, 6, dim=16, heads=2)
    for weight in made.encoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # codes that differ from token to token
    return made


def made(settings=TINY, seed: int = 3) -> MaskedEEG:
    lightning.seed_everything(1, verbose=False)
    return MaskedEEG(settings, tokenizer(seed), CH_NAMES, 20.0)


def test_codes_that_hang_on_place_and_on_the_other_tokens_are_guessed(monkeypatch):
    def labels(windows, rows):  # the channel, and whether the window is a loud one: nothing of the token itself
        loud = (windows[:, 0].std(dim=1) > 18).long()
        return (torch.arange(4).repeat_interleave(2) + 4 * loud[:, None]).expand(len(windows), 8)

    data, module = Windows(count=160), made(replace(TINY, steps=200))
    monkeypatch.setattr(module, "labels", labels)
    logged = train(module, data, 200).callback_metrics
    assert logged["val_mem_loss"] < 0.7 * logged["val_mem_loss_by_frequency"]
    assert logged["val_mlm_acc"] > 2 * logged["val_commonest_code"]
    rows = {row["name"]: row for row in score_rows([{k: float(v) for k, v in logged.items()}])}
    assert rows["val_mlm_acc"]["baseline"] == pytest.approx(float(logged["val_commonest_code"]))


def test_two_passes_at_once_are_two_passes(monkeypatch):
    module = made().eval()
    windows = torch.stack([sample["window"] for sample in Windows().samples[:5]])
    labels = module.labels(windows)
    torch.manual_seed(4)
    guess = module(windows)
    torch.manual_seed(4)
    mask = masking.random_mask(5, 8, 0.5)
    assert torch.equal(guess.mask, mask)
    loss = 0.0
    for hidden in (mask, ~mask):
        tokens = module.student.patch_embed(cut_patches(windows, 20))
        tokens = torch.where(hidden[..., None], module.mask_token, tokens)
        logits = module.lm_head(module.student.trunk(tokens, module.rows)[:, 1:][hidden])
        torch.testing.assert_close(guess.logits[hidden], logits)
        loss = loss + F.cross_entropy(logits, labels[hidden])
    torch.testing.assert_close(module.loss(guess, labels), loss)


def test_a_hidden_token_is_not_seen():
    module = made().eval()
    windows = torch.stack([sample["window"] for sample in Windows().samples[:4]])
    torch.manual_seed(0)
    before = module(windows)
    # The token itself is changed, not the samples: its GroupNorm looks at all patches of a window, as published.
    changed = module.student.patch_embed(cut_patches(windows, 20)).clone()
    changed[:, 2] += torch.randn(16)
    module.student.patch_embed = torch.nn.Module()
    module.student.patch_embed.forward = lambda patches: changed
    torch.manual_seed(0)
    after = module(windows)
    for row in range(4):
        same = after.mask[row] == after.mask[row, 2]  # tokens hidden in the pass in which token 2 was
        torch.testing.assert_close(after.logits[row, same], before.logits[row, same])
        assert not torch.allclose(after.logits[row, ~same], before.logits[row, ~same])


def test_the_tokenizer_is_no_part_of_the_module_and_never_changes():
    data = Windows()
    module = made()
    before = module.tokenizer.fingerprint()
    counts = module.tokenizer.quantize.counts.clone()
    labels = module.labels(data.samples[0]["window"][None])
    assert not any("tokenizer" in name for name in module.state_dict())
    assert "tokenizer" not in dict(module.named_children())
    assert not {id(p) for p in module.tokenizer.parameters()} & {id(p) for p in module.parameters()}
    for _ in range(2):
        module.train()
        train(module, data, 5)
        module.train()
    assert not module.tokenizer.training and module.tokenizer.fingerprint() == before
    assert torch.equal(module.tokenizer.quantize.counts, counts)
    assert torch.equal(module.labels(data.samples[0]["window"][None]), labels)


def test_a_killed_training_resumes_bit_for_bit_with_its_own_tokenizer_alone(tmp_path):
    data = Windows(count=64)
    straight = made()
    lightning.seed_everything(5, verbose=False)
    train(straight, data, 4).save_checkpoint(tmp_path / "cut.ckpt")
    ends = []
    for _ in range(2):
        again = made()
        lightning.seed_everything(7, verbose=False)
        train(again, data, 8, checkpoint=tmp_path / "cut.ckpt", val_check_interval=4)
        ends.append(again.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    with pytest.raises(ValueError, match="its codes mean something else"):
        train(made(seed=4), data, 8, checkpoint=tmp_path / "cut.ckpt")


def test_patches_must_be_the_tokenizers():
    with pytest.raises(ValueError, match="have 20 samples, the settings' 40"):
        MaskedEEG(replace(TINY, patch=40), tokenizer(), CH_NAMES, 20.0)


def test_every_weight_learns():
    module = made().train()
    windows = torch.stack([sample["window"] for sample in Windows().samples[:8]])
    module.loss(module(windows), module.labels(windows)).backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


def test_defaults_are_the_seeds():
    s = PretrainSettings()
    assert (s.depth, s.dim, s.heads, s.mask_ratio, s.epochs, s.patience_epochs) == (12, 200, 10, 0.5, 300, 30)
    assert (s.lr, s.betas, s.grad_clip) == (5e-4, (0.9, 0.98), 3.0)
    assert PretrainSettings.published().epochs == 50 and PretrainSettings.labram_hub().patch == 200
