"""Transformer blocks, pre-norm with layer scale, as BEiT has them (Bao et al. 2022, arXiv:2106.08254).

Every projection is called as a module (`self.qkv(x)`), never through its weight, so that adapters which replace or hook
a Linear see each call.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6


class Attention(nn.Module):
    """Self-attention of every token to every token.

    Parameters
    ----------
    dim, heads : int
    qkv_bias : bool
        A bias on queries, keys and values. That of the keys changes nothing unless ``qk_norm``.
    qk_norm : bool
        Normalise queries and keys, head by head.
    dropout : float
        Of the attention weights and of the output.
    """

    def __init__(
        self, dim: int, heads: int, *, qkv_bias: bool = False, qk_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim=} is not a multiple of {heads=}; each head takes dim / heads of it.")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = nn.LayerNorm(dim // heads, eps=_EPS) if qk_norm else None
        self.k_norm = nn.LayerNorm(dim // heads, eps=_EPS) if qk_norm else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, tokens, dim) for (batch, tokens, dim)."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).unbind(2)
        if self.q_norm is not None:
            # Autocast normalises in float32; attention wants the three in one precision.
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout_p=dropout
        )
        out = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return F.dropout(out, dropout) if dropout else out


class MLP(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim) for (..., dim)."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


class Block(nn.Module):
    """Attention and MLP, each normalised before, scaled after, and added.

    Parameters
    ----------
    dim, heads : int
    mlp_ratio : float
        Hidden width of the MLP over ``dim``.
    qkv_bias, qk_norm, dropout
        See `Attention`.
    layer_scale : float
        First value of the learned scale of each branch; 0: no scale.
    drop_path : float
        Share of a batch's rows in which a branch is left out while training (Huang et al. 2016, arXiv:1603.09382).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_norm: bool = False,
        layer_scale: float = 0.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = Attention(dim, heads, qkv_bias=qkv_bias, qk_norm=qk_norm, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = MLP(dim, int(dim * mlp_ratio), dropout)
        self.gamma_1 = nn.Parameter(layer_scale * torch.ones(dim)) if layer_scale else None
        self.gamma_2 = nn.Parameter(layer_scale * torch.ones(dim)) if layer_scale else None
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, tokens, dim) for (batch, tokens, dim)."""
        x = self._add(x, self.attn(self.norm1(x)), self.gamma_1)
        return self._add(x, self.mlp(self.norm2(x)), self.gamma_2)

    def _add(self, x: Tensor, branch: Tensor, gamma: Tensor | None) -> Tensor:
        if self.training and self.drop_path:
            keep = 1 - self.drop_path
            branch = branch * branch.new_empty(len(x), 1, 1).bernoulli_(keep) / keep
        return x + branch if gamma is None else torch.addcmul(x, branch.to(x.dtype), gamma)


def init_weights(module: nn.Module) -> None:
    """Draw a transformer's first weights: normal with 0.02 for what is linear, ones and zeros for what normalises."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    depth = 0
    for part in module.modules():
        if isinstance(part, Block):
            depth += 1  # so that the sum of many branches begins no larger than one
            part.attn.proj.weight.data.div_(math.sqrt(2.0 * depth))
            part.mlp.fc2.weight.data.div_(math.sqrt(2.0 * depth))
