"""Mixture of experts: a feed-forward layer in which each token uses a few experts.

Shazeer et al. (2017, https://arxiv.org/abs/1701.06538), with the balance loss of Fedus et al. (2021,
https://arxiv.org/abs/2101.03961) and the z-loss of Zoph et al. (2022, https://arxiv.org/abs/2202.08906). All ways of
computing the layer give the result of computing every expert for every token and weighting the outputs. No token is
dropped. Memory grows with the number of tokens, never with tokens times weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INIT_NOISE = 0.01  # standard deviation of the initial differences between experts
_Z_SHARE = 0.1  # weight of the z-loss relative to the balance loss, the ratio of 1e-3 to 1e-2 in Zoph et al.
WAYS = ("sorted", "grouped", "dense")


class Routing(NamedTuple):
    """Statistics and loss of the router for a batch of tokens.

    Attributes
    ----------
    loss : Tensor
        Balance loss plus a tenth of the z-loss. The balance loss is 1 if all experts get equal shares.
    entropy : Tensor
        Mean entropy of the router's probabilities, in nats; at most log(experts). Detached.
    share : Tensor of shape (experts,)
        Fraction of all choices that fell on each expert. Detached.
    """

    loss: Tensor
    entropy: Tensor
    share: Tensor


class MoE(nn.Module):
    """Mixture-of-experts layer: each token passes through the ``top_k`` experts with the highest router scores.

    All experts start as copies of one random layer plus noise with a standard deviation of 0.01.

    Parameters
    ----------
    dim, hidden : int
        An expert is Linear(dim, hidden), GELU, Linear(hidden, dim).
    experts, top_k : int
        Number of experts, and number of experts that each token uses.
    way : {"sorted", "grouped", "dense"}, optional
        How to compute the layer; by default chosen from the device and dtype (see `choose_way`). ``"dense"`` has no
        shape that depends on the data, as an export requires.

    Raises
    ------
    ValueError
        If ``top_k`` is not between 1 and ``experts``, or ``way`` is unknown.
    """

    def __init__(self, dim: int, hidden: int, experts: int = 8, top_k: int = 2, way: str | None = None) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"A top_k={top_k} of {experts} experts is not possible; give 1 to {experts}.")
        if way is not None and way not in WAYS:
            raise ValueError(f"Unknown way={way!r}; allowed are {', '.join(WAYS)}, or None to choose by device.")
        self.dim, self.hidden, self.experts, self.top_k, self.way = dim, hidden, experts, top_k, way
        first, second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.router = nn.Linear(dim, experts)
        self.w1 = nn.Parameter(_apart(first.weight.T, experts))
        self.b1 = nn.Parameter(_apart(first.bias, experts))
        self.w2 = nn.Parameter(_apart(second.weight.T, experts))
        self.b2 = nn.Parameter(_apart(second.bias, experts))

    def forward(self, x: Tensor, temperature: float = 1.0) -> tuple[Tensor, Routing]:
        """Return the weighted sum of the experts' outputs, and the router's statistics.

        Parameters
        ----------
        x : Tensor of shape (..., dim)
        temperature : float
            The router's logits are divided by it; above 1 the weights are softer.

        Returns
        -------
        out : Tensor of shape (..., dim)
            In the dtype of ``x``.
        routing : Routing
        """
        tokens = x.reshape(-1, self.dim)
        weights, chosen, routing = self.route(tokens, temperature)
        out = self.mix(tokens, weights, chosen)
        return out.to(x.dtype).reshape(x.shape), routing

    def route(self, tokens: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor, Routing]:
        """Choose the experts of each token.

        Parameters
        ----------
        tokens : Tensor of shape (tokens, dim)
        temperature : float
            The router's logits are divided by it.

        Returns
        -------
        weights : Tensor of shape (tokens, top_k)
            The weights of a token sum to 1.
        chosen : Tensor of shape (tokens, top_k)
            Indices of the experts.
        routing : Routing
        """
        wide = torch.promote_types(
            tokens.dtype, torch.float32
        )  # in half precision, rounding would change which experts win
        with torch.autocast(tokens.device.type, enabled=False):
            logits = F.linear(tokens.to(wide), self.router.weight.to(wide), self.router.bias.to(wide)) / temperature
            probability = logits.softmax(-1)
            weights, chosen = probability.topk(self.top_k, dim=-1)
            weights = weights / weights.sum(-1, keepdim=True)
            share = F.one_hot(chosen, self.experts).to(wide).mean(dim=(0, 1))
            balance = self.experts * (share * probability.mean(0)).sum()  # Fedus et al., eq. 4
            z = logits.logsumexp(-1).square().mean()  # Zoph et al., eq. 5
            entropy = -(probability * probability.clamp_min(1e-9).log()).sum(-1).mean()
        return weights, chosen, Routing(balance + _Z_SHARE * z, entropy.detach(), share)

    def mix(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, shape (tokens, dim)."""
        way = self.way or choose_way(len(tokens), tokens.device, _compute_dtype(tokens))[0]
        if way == "dense":
            return self._every_expert(tokens, weights, chosen)
        return self._chosen_experts(tokens, weights, chosen, way)

    def _every_expert(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        dense = (F.one_hot(chosen, self.experts).to(weights.dtype) * weights[..., None]).sum(1)  # (tokens, experts)
        out = 0.0
        for e in range(self.experts):  # one product per expert: 8-bit kernels cannot multiply a stack of matrices
            hidden = F.gelu(tokens @ self.w1[e] + self.b1[e])
            given = hidden @ self.w2[e] + self.b2[e]
            out = out + given * dense[:, e, None].to(given.dtype)
        return out

    def _chosen_experts(self, tokens: Tensor, weights: Tensor, chosen: Tensor, way: str) -> Tensor:
        slots = chosen.reshape(-1)  # slot = token * top_k + rank
        slot_of_row = slots.argsort(stable=True)  # stable, so that a repeated run sums in the same order
        row_of_slot = torch.empty_like(slot_of_row)
        row_of_slot[slot_of_row] = torch.arange(len(slots), device=slots.device)
        counts = torch.bincount(slots, minlength=self.experts)
        groups = counts.tolist() if way == "sorted" else counts.cumsum(0).to(torch.int32)
        dtype = _compute_dtype(tokens)
        rows = _Sort.apply(tokens.to(dtype), slot_of_row, row_of_slot, self.top_k)
        hidden = F.gelu(grouped_linear(rows, self.w1.to(dtype), self.b1.to(dtype), groups))
        out = grouped_linear(hidden, self.w2.to(dtype), self.b2.to(dtype), groups)
        slots_out = _Sort.apply(out, row_of_slot, slot_of_row, 1).unflatten(0, (-1, self.top_k))
        return (slots_out * weights[..., None].to(dtype)).sum(1)


def choose_way(tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Return the fastest way to compute the experts on this device, and the reason.

    The way that computes all experts for every token is never chosen. On a CPU it takes 1.2 to 6 times as long from 240
    tokens on, for widths of 64 to 512 (measured; tests/bench/bench_moe.py), and it needs experts / top_k times the
    memory.

    Parameters
    ----------
    tokens : int
        Number of tokens; it appears only in the reason.
    device : torch.device
    dtype : torch.dtype
        Precision of the products.

    Returns
    -------
    way : {"sorted", "grouped"}
    reason : str
    """
    if device.type == "cuda" and dtype == torch.bfloat16 and torch.cuda.get_device_capability(device) >= (9, 0):
        return "grouped", "this GPU has a grouped matrix product for bfloat16; the host need not wait for the counts"
    return "sorted", f"{tokens} tokens: sorted by expert, one matrix product per expert over contiguous rows"


def grouped_linear(rows: Tensor, weight: Tensor, bias: Tensor, groups: list[int] | Tensor) -> Tensor:
    """Apply a different linear map to each group of consecutive rows.

    Parameters
    ----------
    rows : Tensor of shape (rows, inputs)
        The rows of the first group, then those of the second, and so on.
    weight : Tensor of shape (groups, inputs, outputs)
    bias : Tensor of shape (groups, outputs)
    groups : list of int, or int32 Tensor of shape (groups,)
        A list holds the number of rows of each group. A Tensor on the device holds the end of each group, as the
        grouped product of a GPU takes it.

    Returns
    -------
    out : Tensor of shape (rows, outputs)
    """
    if isinstance(groups, list):
        return _GroupedLinear.apply(rows, weight, bias, groups)
    starts = groups - F.pad(groups[:-1], (1, 0))
    out = torch._grouped_mm(rows, weight, offs=groups)
    return out + bias.repeat_interleave(starts, dim=0, output_size=len(rows))


class _GroupedLinear(torch.autograd.Function):
    """One matrix product per group, written into one buffer.

    No copy joins the parts, and no group needs a gradient of full size.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, counts: list[int]) -> Tensor:
        out = rows.new_empty(len(rows), weight.shape[2])
        start = 0
        for group, count in enumerate(counts):
            end = start + count
            torch.addmm(bias[group], rows[start:end], weight[group], out=out[start:end])
            start = end
        ctx.save_for_backward(rows, weight)
        ctx.counts = counts
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad = grad.contiguous()
        need_rows, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_rows = torch.empty_like(rows) if need_rows else None
        grad_weight = torch.empty_like(weight) if need_weight else None
        grad_bias = weight.new_empty(weight.shape[0], weight.shape[2]) if need_bias else None
        start = 0
        for group, count in enumerate(ctx.counts):
            part, end = slice(start, start + count), start + count
            if need_rows:
                torch.mm(grad[part], weight[group].T, out=grad_rows[part])
            if need_weight:
                torch.mm(rows[part].T, grad[part], out=grad_weight[group])
            if need_bias:
                torch.sum(grad[part], dim=0, out=grad_bias[group])
            start = end
        return grad_rows, grad_weight, grad_bias, None


class _Sort(torch.autograd.Function):
    """Reorder rows, each repeated ``copies`` times.

    The backward pass is a gather as well; index_add would run serially.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.copies = copies
        return x.index_select(0, order if copies == 1 else order.div(copies, rounding_mode="floor"))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        back = grad.index_select(0, inverse)
        return (back if ctx.copies == 1 else back.unflatten(0, (-1, ctx.copies)).sum(1)), None, None, None


def _apart(one: Tensor, experts: int) -> Tensor:
    same = one.detach().expand(experts, *one.shape)
    return same + _INIT_NOISE * torch.randn(experts, *one.shape)


def _compute_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
