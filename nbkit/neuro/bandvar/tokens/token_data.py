"""Tokenised windows with their conditions.

Every window is tokenised once, before the first training step. The split is the one of the tokenizer training, so that
the windows held out there are held out here.
"""

from __future__ import annotations

from collections.abc import Mapping

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nbkit.neuro.bandvar.data import BandData, EEGFrequencyDataset
from nbkit.neuro.bandvar.tokens.conditions import Conditions, window_rows
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer


class TokenData(lightning.LightningDataModule):
    """Data module whose batches are (tokens, chosen).

    ``tokens`` has shape (batch, tokens); ``chosen`` has shape (batch, 3), the numbers of class, subject and task.

    Parameters
    ----------
    windows : BandData
        With the split of the tokenizer training.
    tokenizer : BandTokenizer
    batch_size : int
    class_of, target
        Which column tells the class, and how; see `window_rows`.
    """

    def __init__(
        self,
        windows: BandData,
        tokenizer: BandTokenizer,
        batch_size: int,
        class_of: Mapping[str, str] | None = None,
        target: str = "label",
    ) -> None:
        super().__init__()
        self.windows, self.batch_size = windows, batch_size
        train, val = (window_rows(side, class_of, target) for side in (windows.train_dataset, windows.val_dataset))
        self.conditions = Conditions.of(train)
        self.train = TensorDataset(tokens_of(tokenizer, windows.train_dataset), self.conditions.numbers(train))
        self.val = TensorDataset(tokens_of(tokenizer, windows.val_dataset), self.conditions.numbers(val))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.batch_size)


@torch.no_grad()
def tokens_of(tokenizer: BandTokenizer, dataset: EEGFrequencyDataset, at_once: int = 64) -> Tensor:
    """Return the tokens of all windows, int64 of shape (windows, tokens)."""
    was_training = tokenizer.training
    tokenizer.eval()
    device = tokenizer.band_rms.device
    parts = [tokenizer.encode(batch.to(device)).cpu() for batch in DataLoader(dataset, at_once)]
    tokenizer.train(was_training)
    return torch.cat(parts)


def frequencies(tokens: Tensor, slices: list[slice], codes: int) -> Tensor:
    """Return the relative frequency of each code in each scale, Tensor of shape (scales, codes); rows sum to 1.

    One is added to each count, so that no frequency is 0.
    """
    counts = torch.stack([torch.bincount(tokens[:, place].flatten(), minlength=codes) for place in slices]) + 1.0
    return counts / counts.sum(dim=1, keepdim=True)
