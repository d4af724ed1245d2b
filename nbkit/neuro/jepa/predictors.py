"""Predict the latents of a window's second half from those of its first, with one network per block.

The predictor of a block reads only the latents of that block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nbkit.neuro.jepa.encoder import BLOCKS, EVENT, STATE, TRAIT
from nbkit.neuro.nn.ssm import Mamba

_HIDDEN = 64


class Predictors(nn.Module):
    """Predictors of the next half's latents: an MLP for the trait, and a Mamba block each for state and event.

    With a sequence of one step, as in the seed project, a Mamba block has no dynamics; see ``latent_steps`` of the
    pretraining settings.
    """

    def __init__(self) -> None:
        super().__init__()
        trait, state, event = (block.stop - block.start for block in BLOCKS.values())
        self.trait = nn.Sequential(
            nn.Linear(trait, _HIDDEN), nn.LayerNorm(_HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, trait)
        )
        # A Mamba block is residual; the linear map after it can ignore the input and predict the mean.
        self.state = nn.Sequential(Mamba(state, d_state=8, d_conv=3), nn.Linear(state, state))
        self.event = nn.Sequential(Mamba(event, d_state=4, d_conv=2), nn.Linear(event, event))

    def forward(self, latents: Tensor) -> Tensor:
        """Return the predicted latents of the next half, with the shape of ``latents``, (batch, steps, 96)."""
        parts = [self.trait(latents[..., TRAIT]), self.state(latents[..., STATE]), self.event(latents[..., EVENT])]
        return torch.cat(parts, dim=-1)
