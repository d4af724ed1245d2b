"""torch's multi-head attention with its four projections as modules.

`torch.nn.MultiheadAttention` reads the weights of its projections and never calls the layers. What is added to those
linear layers (LoRA, 4-bit weights) therefore has no effect, without any error. Here each projection is an `nn.Linear`
that is called; weights and outputs are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbkit.neuro.nn.fused import attend


class OpenAttention(nn.Module):
    """Multi-head attention equal to `torch.nn.MultiheadAttention`, with projections that are called as modules.

    peft has its own adapter for torch's class. It adds its update to the frozen weights before each call and subtracts
    it afterwards. Rounding then changes the frozen weights, and the update of the output projection is added twice
    (peft 0.21).

    Parameters
    ----------
    attention : torch.nn.MultiheadAttention
        Attention whose weights are copied; queries, keys and values must have one width.

    Raises
    ------
    ValueError
        If keys or values have another width than queries, or it uses bias_k or add_zero_attn.
    """

    # torch's encoder layers read these: without a joint bias they call this module instead of their fast path.
    in_proj_bias = None
    in_proj_weight = None
    _qkv_same_embed_dim = True

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        if not attention._qkv_same_embed_dim or attention.bias_k is not None or attention.add_zero_attn:
            raise ValueError(
                "Only attention whose queries, keys and values have one width, without bias_k and add_zero_attn, can "
                f"be opened; this one is {attention}."
            )
        dim, self.num_heads = attention.embed_dim, attention.num_heads
        self.embed_dim, self.batch_first, self.dropout = dim, attention.batch_first, attention.dropout
        biased = attention.in_proj_bias is not None
        for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = slice(place * dim, (place + 1) * dim)
            bias = attention.in_proj_bias[rows] if biased else None
            self.add_module(name, _linear(attention.in_proj_weight[rows], bias))
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values and, if ``need_weights``, the attention weights; shapes as in torch's class."""
        if query.dim() != 3:
            raise ValueError(
                f"Queries have the shape {tuple(query.shape)}; they must have three dimensions. Add a batch axis."
            )
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            mixed = F.dropout(weights, dropout) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = attend(q, k, v, mask, dropout=dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Return the term to add to the scores, or None; True in a boolean mask excludes a position, as in torch."""
        added = None
        for mask in (attn_mask, None if padding is None else padding[:, None, None]):
            if mask is None:
                continue
            if mask.dtype == torch.bool:
                mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(mask, float("-inf"))
            elif mask.dim() == 3:
                mask = mask.unflatten(0, (-1, self.num_heads))
            added = mask if added is None else added + mask
        return added


def open_attention(module: nn.Module) -> list[str]:
    """Replace each `torch.nn.MultiheadAttention` in a module by an `OpenAttention`, in place.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    names : list of str
        Names of the layers that were replaced.
    """
    opened = []
    for name, child in list(module.named_modules()):
        if type(child) is nn.MultiheadAttention:
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, OpenAttention(child))
            opened.append(name)
    return opened


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return linear
