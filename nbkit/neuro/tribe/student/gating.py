"""Gated pooling: one token a step out of three, each modality with a weight that the step itself decides."""

from __future__ import annotations

from torch import Tensor, nn


class GatedPooling(nn.Module):
    """Weigh the modalities of a step by sigmoids of their mean token, divided by their sum."""

    def __init__(self, dim: int, modalities: int = 3) -> None:
        super().__init__()
        self.net = nn.Linear(dim, modalities)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pool tokens of shape (batch, time, modalities, dim).

        Returns
        -------
        pooled : Tensor of shape (batch, time, dim)
        gates : Tensor of shape (batch, time, modalities)
            Sum to 1 over modalities.
        """
        gates = self.net(tokens.mean(dim=2)).sigmoid()
        gates = gates / gates.sum(dim=-1, keepdim=True)
        return (gates[..., None] * tokens).sum(dim=2), gates
