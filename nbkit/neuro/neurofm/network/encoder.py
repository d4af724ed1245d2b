"""Population encoder: from one token to one state for each bin.

Mamba blocks at several rates mix information over time, a few latents summarise the window (Perceiver IO, Jaegle et al.
2022, arXiv:2107.14795), and units exchange information through these latents (induced set attention, Lee et al. 2019,
arXiv:1810.00825). The cost of the attention is proportional to bins times latents and units times latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.nn.attention import MLP, Block
from nbkit.neuro.nn.fused import attend
from nbkit.neuro.nn.ssm import BidirectionalMamba


class CrossAttention(nn.Module):
    """Cross-attention from some tokens to others, with pre-normalisation and a residual connection.

    Parameters
    ----------
    dim, heads : int
        Width, and number of attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_own, self.norm_other = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, own: Tensor, other: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return updated tokens (batch, tokens, dim).

        ``own`` (batch, tokens, dim) attends to ``other`` (batch, others, dim) where ``seen`` (batch, others) is True.
        """
        q = self.q(self.norm_own(own)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(self.norm_other(other)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None, :]
        read = attend(q, k, v, mask)
        if seen is not None:
            read = read.masked_fill(~seen.any(dim=1)[:, None, None, None], 0.0)
        return own + self.proj(read.transpose(1, 2).flatten(2))


class MultiRateMamba(nn.Module):
    """Mamba blocks in several parallel streams at different time resolutions.

    Parameters
    ----------
    dim, blocks : int
        Width and number of blocks of each stream.
    rates : sequence of int
        Bins averaged to one step, for each stream.
    d_state : int
        State size of Mamba.
    """

    def __init__(self, dim: int, blocks: int, rates: Sequence[int] = (1, 4), d_state: int = 16) -> None:
        super().__init__()
        self.rates = tuple(rates)
        self.streams = nn.ModuleList(BidirectionalMamba(dim, blocks, d_state) for _ in self.rates)
        self.join = nn.Linear(dim * len(self.rates), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, bins, dim) for (batch, bins, dim)."""
        bins, read = x.shape[1], []
        for rate, stream in zip(self.rates, self.streams, strict=True):
            if rate == 1:
                read.append(stream(x))
                continue
            # ceil_mode: a last step with fewer bins is the mean of these bins, without zeros from outside the window
            slow = F.avg_pool1d(x.transpose(1, 2), rate, ceil_mode=True).transpose(1, 2)
            read.append(stream(slow).repeat_interleave(rate, dim=1)[:, :bins])
        return x + self.join(torch.cat(read, dim=-1))


class PopulationLayer(nn.Module):
    """Cross-attention between units and latents, so that units exchange information at a cost of units times latents.

    Parameters
    ----------
    dim, heads : int
        Width, and number of attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.gather, self.hand_back = CrossAttention(dim, heads), CrossAttention(dim, heads)
        self.norm, self.mlp = nn.LayerNorm(dim), MLP(dim, 2 * dim)

    def forward(self, latents: Tensor, units: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated latents (batch, latents, dim) and units (batch, units, dim).

        The latents do not attend to units where ``seen`` (batch, units) is False.
        """
        latents = self.gather(latents, units, seen)
        units = self.hand_back(units, latents)
        return latents, units + self.mlp(self.norm(units))


class PopulationEncoder(nn.Module):
    """Mamba over bins, latents over the window, a population transformer over units, and attention back to bins.

    Parameters
    ----------
    dim, heads : int
        Width, and number of attention heads.
    blocks : int
        Mamba blocks in each stream.
    rates : sequence of int
        Bins per step of each stream.
    latents : int
        Number of latents.
    perceiver_layers, population_layers : int
        Layers from bins to latents, and between latents and units.
    d_state : int
        State size of Mamba.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        blocks: int,
        rates: Sequence[int],
        latents: int,
        perceiver_layers: int,
        population_layers: int,
        d_state: int = 16,
    ) -> None:
        super().__init__()
        self.mamba = MultiRateMamba(dim, blocks, rates, d_state)
        self.latent_embed = nn.Parameter(0.02 * torch.randn(latents, dim))
        self.readers = nn.ModuleList(CrossAttention(dim, heads) for _ in range(perceiver_layers))
        self.mixers = nn.ModuleList(Block(dim, heads, mlp_ratio=2.0) for _ in range(perceiver_layers))
        self.activity = nn.Linear(1, dim)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(dim))
        self.population = nn.ModuleList(PopulationLayer(dim, heads) for _ in range(population_layers))
        self.answer = CrossAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, activity: Tensor, units: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return states of the bins, latents, and unit embeddings updated with the window.

        Parameters
        ----------
        tokens : Tensor of shape (batch, bins, dim)
        activity : Tensor of shape (batch, units)
            Mean level of each unit over its observed bins.
        units : Tensor of shape (batch, units, dim)
            Embeddings of the units.
        seen : bool Tensor of shape (batch, units)
            False for padding and masked units. Their activity is not used; they get a learned mask token.

        Returns
        -------
        states : Tensor of shape (batch, bins, dim)
        latents : Tensor of shape (batch, latents, dim)
        units : Tensor of shape (batch, units, dim)
        """
        states = self.mamba(tokens)
        placed = states + _places(states.shape[1], states.shape[2], states)
        latents = self.latent_embed.expand(len(tokens), -1, -1)
        for read, mix in zip(self.readers, self.mixers, strict=True):
            latents = mix(read(latents, placed))
        level = self.activity(activity[..., None])
        units = units + torch.where(seen[..., None], level, self.hidden_token.to(level.dtype))
        for layer in self.population:
            latents, units = layer(latents, units, seen)
        return self.norm(self.answer(states, latents)), latents, units


def _places(bins: int, dim: int, like: Tensor) -> Tensor:
    """Return sinusoidal position encodings (bins, dim), after Vaswani et al. 2017."""
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device) * (-math.log(1e4) / dim))
    angle = torch.arange(bins, device=like.device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim].to(like.dtype)
