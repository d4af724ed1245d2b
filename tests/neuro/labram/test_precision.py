"""Mixed precision: every training steps, its loss is float32 and near that of full precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
from nbkit.neuro.labram.finetune import FinetuneSettings, Regressor
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings

CH_NAMES = ("E1", "E5", "Cz")


def modules(patch: int) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    book = Codebook(replace(CodebookSettings.smoke(), patch=patch, dim=200), CH_NAMES, 100.0)
    book.tokenizer.quantize.take(torch.randn(64, 16))
    student = MaskedEEG(replace(PretrainSettings.smoke(), patch=patch, dim=200), book.tokenizer, CH_NAMES, 100.0)
    other = Codebook(replace(CodebookSettings.smoke(), patch=patch, dim=200), CH_NAMES, 100.0)
    other.tokenizer.quantize.take(torch.randn(64, 16))
    regressor = Regressor(replace(FinetuneSettings.smoke(), patch=patch, dim=200), CH_NAMES, 100.0)
    return {"codebook": other, "pretrain": student, "finetune": regressor}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("patch", [100, 200])
@pytest.mark.parametrize("name", ["codebook", "pretrain", "finetune"])
def test_a_step_in_mixed_precision(name, patch, dtype):
    module = modules(patch)[name].eval()  # in which codes stay and two steps can be compared
    module.log = module.log_dict = lambda *arguments, **more: None
    batch = {"window": 30 * torch.randn(4, 3, 2 * patch), "target": torch.randn(4)}
    batch["window"][:, 2] = 0
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            loss = module.training_step(batch, 0)
        losses.append(loss)
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.05)
    losses[1].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
