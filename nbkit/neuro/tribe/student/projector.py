"""From a backbone's features to tokens: a projector a modality, and for video a filter over neighbouring frames.

Frozen image encoders see one frame at a time; the motion filter is the first place where frames meet. Where a model may
not look ahead, the tap that looks one step ahead is left out and the rest is what it was.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Sequential):
    """LayerNorm, three linear layers with GELU and dropout between, LayerNorm.

    Parameters
    ----------
    inputs, hidden, dim : int
        Sizes of the features, of the two layers between, and of the tokens.
    dropout : float
    """

    def __init__(self, inputs: int, hidden: int = 768, dim: int = 512, dropout: float = 0.1) -> None:
        super().__init__(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.LayerNorm(dim),
        )  # fmt: skip


class Motion(nn.Module):
    """Add what a 3-tap filter a feature sees in neighbouring frames to each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)

    def forward(self, frames: Tensor, causal: bool = False) -> Tensor:
        """Return frames of the same shape, (batch, time, dim); ``causal`` leaves the tap ahead out."""
        weight = self.conv.weight
        if causal:
            weight = weight * torch.tensor([1.0, 1.0, 0.0], dtype=weight.dtype, device=weight.device)
        moved = F.conv1d(frames.transpose(1, 2), weight, padding=1, groups=self.conv.groups)
        return frames + moved.transpose(1, 2)
