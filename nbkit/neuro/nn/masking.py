"""Masks over tokens.

Every row has exactly the same number of masked tokens, so shapes are known without asking the accelerator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_count(tokens: int, ratio: float) -> int:
    """Return how many of ``tokens`` a ratio masks: at least one, and not all.

    Raises
    ------
    ValueError
        If the ratio is not within 0 and 1, or there are fewer than two tokens.
    """
    if not 0 < ratio < 1 or tokens < 2:
        raise ValueError(
            f"A mask ratio of {ratio} over {tokens} tokens: it must lie between 0 and 1, over 2 tokens or more, "
            "so that some are masked and some are not."
        )
    return min(tokens - 1, max(1, round(ratio * tokens)))


def random_mask(batch: int, tokens: int, ratio: float, device: torch.device | str = "cpu") -> Tensor:
    """Draw a mask for each row, True where a token is hidden.

    The mask and its complement together cover each token once, which symmetric masking asks for (Jiang et al. 2024,
    arXiv:2405.18765, section 2.4).

    Parameters
    ----------
    batch, tokens : int
    ratio : float
        Share that is masked.
    device : device
        Where to draw.

    Returns
    -------
    mask : Tensor of shape (batch, tokens)
        bool, with `masked_count` True in each row.
    """
    count = masked_count(tokens, ratio)
    order = torch.rand(batch, tokens, device=device).argsort(dim=1)
    return torch.zeros(batch, tokens, dtype=torch.bool, device=device).scatter_(1, order[:, :count], True)
