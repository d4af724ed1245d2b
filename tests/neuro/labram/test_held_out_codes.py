"""Codes of held-out subjects: each share counted by hand, and the rivals by loops."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.neuro.labram.held_out_codes import FREQUENT, NEAREST, copied_codes, shares_by_subject, subject_rows
from tests.neuro.labram.test_pretrain import made
from tests.neuro.labram.training import Windows


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_visible_patch_is_the_one_that_a_loop_finds(seed):
    draws = torch.Generator().manual_seed(seed)
    channels, patches, frequent = 3, int(torch.randint(1, 7, (), generator=draws)), 9
    labels = torch.randint(9, (4, channels * patches), generator=draws)
    mask = torch.rand(4, channels * patches, generator=draws) < 0.5
    copied = copied_codes(labels, mask, channels, frequent)
    for row in range(4):
        for token in range(channels * patches):
            begin = token // patches * patches
            near = [other for other in range(begin, begin + patches) if mask[row, other] != mask[row, token]]
            near.sort(key=lambda other: (abs(other - token), other))
            assert copied[row, token] == (labels[row, near[0]] if near else frequent)


def test_the_shares_of_each_subject_are_those_of_a_loop():
    module, windows = made(), Windows()
    subjects = np.array([str(sample["subject"]) for sample in windows.val])
    data = SimpleNamespace(val_dataloader=windows.val_dataloader, val_dataset=SimpleNamespace(subjects=subjects))
    state = torch.get_rng_state()
    shares = shares_by_subject(module, data)
    assert torch.equal(state, torch.get_rng_state()) and module.training

    module.eval()
    torch.manual_seed(2025)
    right, labels = {}, []
    with torch.no_grad():
        for batch in windows.val_dataloader():
            truth = module.labels(batch["window"])
            guess = module(batch["window"]).logits.argmax(-1)
            labels.append(truth)
            for subject, share in zip(batch["subject"].tolist(), (guess == truth).double().mean(1), strict=True):
                right.setdefault(str(subject), []).append(float(share))
    assert shares["ours"] == pytest.approx([np.mean(right[subject]) for subject in sorted(right)])
    counts = torch.cat(labels).flatten().bincount()
    assert shares[FREQUENT].mean() == pytest.approx(float(counts.max() / counts.sum()))  # as many windows each
    row = subject_rows(shares)[0]
    assert row["over"] == f"{len(right)} subjects" and [r["name"] for r in row["rivals"]] == [FREQUENT, NEAREST]
    assert row["value"] == pytest.approx(shares["ours"].mean())
    fewer = shares_by_subject(module, data, most=8)  # the first of three batches: subject 9, last by name
    assert fewer["ours"] == pytest.approx(shares["ours"][-1:])
