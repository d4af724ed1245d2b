"""How many masked codes of each held-out subject are right, beside two rivals that know no EEG.

The training's own `val_mlm_acc` counts all tokens together and has no interval. Here each subject has its own share,
so that it can be compared, subject by subject, with always guessing the most frequent code and with copying the code
of the nearest visible patch of the same channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbkit.neuro.labram.channels import rows_of, with_rows
from nbkit.neuro.labram.pretrain import MaskedEEG
from nbkit.neuro.training.scores.paired import beside

FREQUENT, NEAREST = "always the most frequent code", "code of the nearest visible patch"
_SEED = 2025  # of the masks


def copied_codes(labels: Tensor, mask: Tensor, channels: int, frequent: int) -> Tensor:
    """Return for each token the code of the nearest patch of its channel that is visible when it is masked.

    Parameters
    ----------
    labels : Tensor of shape (batch, channels * patches)
        Codes.
    mask : Tensor of shape (batch, channels * patches)
        True for tokens that are masked in the first pass; the others are masked in the second.
    channels : int
    frequent : int
        Code where a channel has no visible patch.

    Returns
    -------
    copied : Tensor of shape (batch, channels * patches)
        Of two patches that are equally near, the earlier one counts.
    """
    batch = len(labels)
    codes, hidden = labels.reshape(batch, channels, -1), mask.reshape(batch, channels, -1)
    patches = codes.shape[-1]
    place = torch.arange(patches, device=labels.device)
    apart = 2 * (place[:, None] - place).abs() + (place > place[:, None]).long()  # (token, its neighbour)
    seen = hidden[..., :, None] != hidden[..., None, :]
    apart = torch.where(seen, apart, 2 * patches + 2)
    nearest = codes.gather(-1, apart.argmin(dim=-1))
    return torch.where(seen.any(dim=-1), nearest, frequent).reshape(batch, -1)


@torch.no_grad()
def shares_by_subject(module: MaskedEEG, data: Any, most: int = 4096) -> dict[str, np.ndarray]:
    """Return the share of masked codes that are right in the windows of each validation subject.

    Parameters
    ----------
    module : MaskedEEG
    data : MontageData
    most : int
        Windows to look at: of more, every second batch, every third and so on.

    Returns
    -------
    shares : dict of str to ndarray of shape (subjects,)
        Of ``ours``, `FREQUENT` (the most frequent code of all these windows, which favours it) and `NEAREST`.
    """
    was_training = module.training
    module.eval()
    found: list[tuple[Tensor, Tensor, Tensor, int]] = []
    subjects, begin, every = np.asarray(data.val_dataset.subjects, str), 0, -(-len(data.val_dataset.subjects) // most)
    looked_at: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        for place, batch in enumerate(data.val_dataloader()):
            begin, own = begin + len(batch["window"]), subjects[begin : begin + len(batch["window"])]
            if place % every:
                continue
            looked_at.append(own)
            windows = batch["window"].to(module.device)
            rows = rows_of(with_rows(batch, module.table), module.rows, module.table)
            labels, guess = module.labels(windows, rows), module(windows, rows)
            found.append((labels.cpu(), guess.logits.argmax(-1).cpu(), guess.mask.cpu(), windows.shape[1]))
    module.train(was_training)
    frequent = int(np.bincount(np.concatenate([labels.ravel() for labels, *_ in found])).argmax())
    right: dict[str, list[np.ndarray]] = {"ours": [], FREQUENT: [], NEAREST: []}
    for labels, ours, mask, channels in found:
        guesses = {"ours": ours, FREQUENT: labels.new_tensor(frequent), NEAREST: copied_codes(
            labels, mask, channels, frequent)}  # fmt: skip
        for name, codes in guesses.items():
            right[name].append((codes == labels).double().mean(dim=1).numpy())
    _, of = np.unique(np.concatenate(looked_at), return_inverse=True)
    count = np.bincount(of)
    return {name: np.bincount(of, np.concatenate(values)) / count for name, values in right.items()}


def subject_rows(shares: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the result row of `shares_by_subject`: the mean over subjects, its interval, and its rivals."""
    ours = shares["ours"]
    rivals = {name: values for name, values in shares.items() if name != "ours"}
    return [
        {"name": "val_mlm_acc_by_subject", "value": float(ours.mean()), "unit": "1",
         "baseline": float(shares[FREQUENT].mean()), "baseline_is": FREQUENT,
         "over": f"{len(ours)} subjects", **beside(ours, rivals)}
    ]  # fmt: skip
