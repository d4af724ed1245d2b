"""torch's multi-head attention with its four projections as modules.

`torch.nn.MultiheadAttention` reads the weights of its projections and never calls them, so what is put around a linear
layer (LoRA, 4-bit weights) does nothing there, in silence. Here each projection is an `nn.Linear` that is called; the
weights and what comes out are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OpenAttention(nn.Module):
    """Attention of queries to keys and values, as `torch.nn.MultiheadAttention` computes it.

    peft has an own adapter for torch's class; it adds its update to the frozen weights before each call and takes it
    off again afterwards, which leaves them changed by rounding, and adds the output projection's twice (peft 0.21).

    Parameters
    ----------
    attention : torch.nn.MultiheadAttention
        Whose weights are taken over; queries, keys and values of one width.

    Raises
    ------
    ValueError
        If it has keys of another width, bias rows or appended zeros.
    """

    # What torch's encoder layers look at: without a joint bias they call this module and take no short cut past it.
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
        """Return what was attended to and, where ``need_weights``, how much; shapes as in torch's class."""
        if query.dim() != 3:
            raise ValueError(f"Queries of shape {tuple(query.shape)}; they may have three dimensions.")
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
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """What is added to the scores; True in a boolean mask is a place that is not looked at, as torch has it."""
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
    """Put an `OpenAttention` in the place of every `torch.nn.MultiheadAttention`, in place; give their names."""
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
