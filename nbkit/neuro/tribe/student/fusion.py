"""Fusion transformer: blocks of attention and experts over tokens of three modalities.

The time step of a token is its index divided by three, rounded down, so all tokens of a step are at distance 0. Router
statistics include samples that skip the block (drop path).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nbkit.neuro.nn.fused import attend
from nbkit.neuro.nn.moe import MoE, Routing

MODALITIES = ("text", "audio", "video")
DECAY_TRS = 6.0  # initial distance, in steps, at which the attention weight falls to 1/e: about 9 s at 1.49 s


class Routed(NamedTuple):
    """Statistics and loss of the routers of all blocks.

    Attributes
    ----------
    loss : Tensor
        Sum of balance loss and z-loss over blocks.
    entropy : Tensor of shape (blocks,)
        In nats.
    share : Tensor of shape (blocks, experts)
        Fraction of the choices that fell on each expert.
    """

    loss: Tensor
    entropy: Tensor
    share: Tensor


class TimedAttention(nn.Module):
    """Self-attention with an optional decay over time and an optional causal mask.

    The bias of the logits is -alpha |dt| in steps (as in ALiBi, Press et al. 2022, https://arxiv.org/abs/2108.12409).
    alpha = exp(p) is positive for any learned p; p starts at log(1/6).

    Parameters
    ----------
    dim, heads : int
        Width of a token, and number of heads.
    decay : bool
        Whether to use the decay.

    Raises
    ------
    ValueError
        If ``dim`` is not a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int, decay: bool) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"The width dim={dim} is no multiple of heads={heads}; each head needs the same share.")
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(1 / DECAY_TRS))) if decay else None

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """Apply attention to tokens of shape (batch, tokens, dim) and return the same shape."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, self.bias(x.shape[1], query, causal))
        return self.out(mixed.transpose(1, 2).flatten(2))

    def bias(self, tokens: int, like: Tensor, causal: bool) -> Tensor | None:
        """Return the bias to add to the logits, shape (tokens, tokens), or None."""
        if self.log_alpha is None and not causal:
            return None
        step = torch.arange(tokens, device=like.device) // len(MODALITIES)
        apart = (step[:, None] - step[None, :]).to(like.dtype)
        bias = torch.zeros_like(apart)
        if self.log_alpha is not None:
            bias = (-self.log_alpha.exp() * apart.abs()).to(like.dtype)
        return bias.masked_fill(apart < 0, -torch.inf) if causal else bias


class FusionBlock(nn.Module):
    """Attention and a mixture of experts, each with a LayerNorm before it and a residual connection."""

    def __init__(
        self, dim: int, heads: int, hidden: int, experts: int, top_k: int, *, decay: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = TimedAttention(dim, heads, decay)
        self.moe = MoE(dim, hidden, experts, top_k)

    def forward(self, x: Tensor, causal: bool = False, temperature: float = 1.0) -> tuple[Tensor, Routing]:
        """Return tokens of the same shape, (batch, tokens, dim), and the router's statistics for all of them."""
        out = x + self.attention(self.norm1(x), causal)
        mixed, routing = self.moe(self.norm2(out), temperature)
        out = out + mixed
        if self.training and self.drop_path:
            left_out = torch.rand(len(x), 1, 1, device=x.device) < self.drop_path
            out = torch.where(left_out, x, out)
        return out, routing


class Fusion(nn.Module):
    """Fusion blocks with increasing drop path, followed by a LayerNorm.

    Parameters
    ----------
    dim, heads, hidden, experts, top_k : int
        Sizes of a block (see `MoE`).
    layers, local : int
        Number of blocks, and number of first blocks with a decay over time.
    drop_path : float
        Drop-path rate of the last block; block l of L has l / L of it.
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, experts: int, top_k: int, layers: int, local: int, drop_path: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            FusionBlock(
                dim, heads, hidden, experts, top_k, decay=number <= local, drop_path=number / layers * drop_path
            )
            for number in range(1, layers + 1)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, causal: bool = False, temperature: float = 1.0) -> tuple[Tensor, Routed]:
        """Return tokens of the same shape, (batch, time, modalities, dim), and the routers' statistics."""
        x, routings = tokens.flatten(1, 2), []  # (batch, time x 3, dim): t1 a1 v1 t2 a2 v2 ...
        for block in self.blocks:
            x, routing = block(x, causal, temperature)
            routings.append(routing)
        losses, entropies, shares = zip(*routings, strict=True)
        routed = Routed(torch.stack(losses).sum(), torch.stack(entropies), torch.stack(shares))
        return self.norm(x).unflatten(1, tokens.shape[1:3]), routed


class GatedPooling(nn.Module):
    """Weighted mean of the modalities of a step; the weights are normalised sigmoids of their mean token.

    Parameters
    ----------
    dim, modalities : int
    networks : int
        Number of networks with weights of their own; with 1, all outputs share the weights.
    """

    def __init__(self, dim: int, modalities: int = 3, networks: int = 1) -> None:
        super().__init__()
        self.net = nn.Linear(dim, networks * modalities)
        self.networks = networks

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Pool tokens of shape (batch, time, modalities, dim).

        Returns
        -------
        pooled : Tensor of shape (batch, time, networks, dim)
        gates : Tensor of shape (batch, time, networks, modalities)
            They sum to 1 over modalities.
        """
        gates = self.net(tokens.mean(dim=2)).sigmoid().unflatten(-1, (self.networks, -1))
        gates = gates / gates.sum(dim=-1, keepdim=True)
        return torch.einsum("btnm,btmd->btnd", gates, tokens), gates
