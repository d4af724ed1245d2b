"""Projectors from backbone features to tokens, and a filter over neighbouring video frames.

Frozen image encoders see one frame at a time, so only the motion filter combines frames. In causal mode, the filter
leaves out the tap for the next step and keeps the others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Sequential):
    """LayerNorm, three linear layers with GELU and dropout between them, LayerNorm.

    Parameters
    ----------
    inputs, hidden, dim : int
        Sizes of the features, of the two hidden layers, and of the tokens.
    dropout : float
    """

    def __init__(self, inputs: int, hidden: int = 768, dim: int = 512, dropout: float = 0.1) -> None:
        super().__init__(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.LayerNorm(dim),
        )  # fmt: skip


class Motion(nn.Module):
    """Add the output of a 3-tap filter per feature over neighbouring frames to each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)

    def forward(self, frames: Tensor, causal: bool = False) -> Tensor:
        """Return frames of the same shape, (batch, time, dim); ``causal`` leaves out the next frame."""
        weight = self.conv.weight
        if causal:
            weight = weight * torch.tensor([1.0, 1.0, 0.0], dtype=weight.dtype, device=weight.device)
        moved = F.conv1d(frames.transpose(1, 2), weight, padding=1, groups=self.conv.groups)
        return frames + moved.transpose(1, 2)
