"""Random masks over tokens.

Each row has exactly the same number of masked tokens, so shapes are known without waiting for the GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_count(tokens: int, ratio: float) -> int:
    """Return the number of masked tokens for a ratio: at least one, and never all.

    Parameters
    ----------
    tokens : int
        Tokens of a row, 2 or more.
    ratio : float
        Share of them to mask, between 0 and 1 (exclusive).

    Raises
    ------
    ValueError
        If the ratio is not between 0 and 1, or there are fewer than two tokens.
    """
    if not 0 < ratio < 1 or tokens < 2:
        raise ValueError(
            f"A mask ratio of {ratio} for {tokens} tokens is not possible: it must lie between 0 and 1 and there must "
            "be 2 tokens or more, so that some are masked and some are not."
        )
    return min(tokens - 1, max(1, round(ratio * tokens)))


def random_mask(batch: int, tokens: int, ratio: float, device: torch.device | str = "cpu") -> Tensor:
    """Draw a random mask for each row.

    The mask and its complement together cover each token once, as symmetric masking requires (Jiang et al. 2024,
    arXiv:2405.18765, section 2.4).

    Parameters
    ----------
    batch, tokens : int
    ratio : float
        Share of the tokens to mask, between 0 and 1.
    device : torch.device or str
        Device on which to draw.

    Returns
    -------
    mask : Tensor of shape (batch, tokens)
        bool; True marks a masked token, and each row has `masked_count` of them.
    """
    count = masked_count(tokens, ratio)
    order = torch.rand(batch, tokens, device=device).argsort(dim=1)
    return torch.zeros(batch, tokens, dtype=torch.bool, device=device).scatter_(1, order[:, :count], True)
