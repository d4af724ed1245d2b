"""Transformer blocks: pre-norm with layer scale, as in BEiT (Bao et al. 2022, arXiv:2106.08254).

Each projection is called as a module (`self.qkv(x)`) and its weight is never read directly. Adapters that replace or
hook a Linear layer therefore see every call.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.nn.fused import attend

_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Parameters
    ----------
    dim, heads : int
        Width of a token, and number of heads. ``dim`` must be a multiple of ``heads``.
    qkv_bias : bool
        Add a bias to queries, keys and values. The bias of the keys has no effect unless ``qk_norm`` is set.
    qk_norm : bool
        Apply layer normalisation to the queries and keys of each head.
    dropout : float
        Dropout rate of the attention weights and of the output.

    Raises
    ------
    ValueError
        If ``dim`` is not a multiple of ``heads``.
    """

    def __init__(
        self, dim: int, heads: int, *, qkv_bias: bool = False, qk_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(
                f"{dim=} is not a multiple of {heads=}; each head takes dim / heads channels. Choose another dim."
            )
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = nn.LayerNorm(dim // heads, eps=_EPS) if qk_norm else None
        self.k_norm = nn.LayerNorm(dim // heads, eps=_EPS) if qk_norm else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to tokens of shape (batch, tokens, dim) and return the same shape."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).unbind(2)
        if self.q_norm is not None:
            # Under autocast, LayerNorm returns float32, but attention needs q, k and v in one precision.
            q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout=dropout)
        out = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return F.dropout(out, dropout) if dropout else out


class MLP(nn.Module):
    """Two linear layers with a GELU between them.

    Parameters
    ----------
    dim, hidden : int
        Width of the input and output, and of the layer between them.
    dropout : float
        Dropout rate of the output.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Transform x of shape (..., dim) and return the same shape."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


class Block(nn.Module):
    """Pre-norm transformer block: attention and an MLP, each with a residual connection.

    Parameters
    ----------
    dim, heads : int
        Width of a token, and number of attention heads.
    mlp_ratio : float
        Hidden width of the MLP divided by ``dim``.
    qkv_bias, qk_norm, dropout
        See `Attention`.
    layer_scale : float
        Initial value of the learned scale of each branch; 0 means no scale.
    drop_path : float
        Probability that a branch is skipped for a row of the batch in training (stochastic depth, Huang et al. 2016,
        arXiv:1603.09382).
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
        """Apply the block to tokens of shape (batch, tokens, dim) and return the same shape."""
        x = self._add(x, self.attn(self.norm1(x)), self.gamma_1)
        return self._add(x, self.mlp(self.norm2(x)), self.gamma_2)

    def _add(self, x: Tensor, branch: Tensor, gamma: Tensor | None) -> Tensor:
        if self.training and self.drop_path:
            keep = 1 - self.drop_path
            branch = branch * branch.new_empty(len(x), 1, 1).bernoulli_(keep) / keep
        return x + branch if gamma is None else torch.addcmul(x, branch.to(x.dtype), gamma)


def init_weights(module: nn.Module) -> None:
    """Initialise a transformer in place: truncated normal (std 0.02) for linear layers, ones and zeros for norms.

    The output projections of block number n are divided by sqrt(2 n), as in BEiT.

    Parameters
    ----------
    module : torch.nn.Module
    """
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
            depth += 1  # deeper branches start smaller, so that the sum of many residual branches does not grow
            part.attn.proj.weight.data.div_(math.sqrt(2.0 * depth))
            part.mlp.fc2.weight.data.div_(math.sqrt(2.0 * depth))
