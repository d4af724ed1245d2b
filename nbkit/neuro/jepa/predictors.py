"""What tells the future's latents from the past's: another map for each block.

Each block's predictor reads its own latents alone, so what it needs must be there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nbkit.neuro.jepa.encoder import BLOCKS, EVENT, STATE, TRAIT
from nbkit.neuro.nn.ssm import Mamba

_HIDDEN = 64


class Predictors(nn.Module):
    """Guess the latents of what follows: the trait by a small network, state and event by a Mamba block each.

    A sequence of one step, the seed's, leaves a Mamba block no dynamics; see ``latent_steps`` of the pretraining.
    """

    def __init__(self) -> None:
        super().__init__()
        trait, state, event = (block.stop - block.start for block in BLOCKS.values())
        self.trait = nn.Sequential(
            nn.Linear(trait, _HIDDEN), nn.LayerNorm(_HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, trait)
        )
        # A block adds to what it reads; the linear map after it lets a guess fall back to the mean.
        self.state = nn.Sequential(Mamba(state, d_state=8, d_conv=3), nn.Linear(state, state))
        self.event = nn.Sequential(Mamba(event, d_state=4, d_conv=2), nn.Linear(event, event))

    def forward(self, latents: Tensor) -> Tensor:
        """Return the guess for the next half, of the shape of ``latents``: (batch, steps, 96)."""
        parts = [self.trait(latents[..., TRAIT]), self.state(latents[..., STATE]), self.event(latents[..., EVENT])]
        return torch.cat(parts, dim=-1)
