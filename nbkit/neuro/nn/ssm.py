"""Mamba blocks, and a bidirectional stack of them.

Gu and Dao (2023, https://arxiv.org/abs/2312.00752). A block adds the mixing of its normalised input to its input. Its
weights have the names and shapes of mambapy's residual block, and both give the same outputs for the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.nn.scan import selective_scan


class Mamba(nn.Module):
    """Residual Mamba block over time.

    Weights have the names and the initialisation of mambapy's residual block.

    Parameters
    ----------
    d_model : int
        Width of a step of the sequence.
    d_state, d_conv, expand : int
        State values per channel, width of the causal convolution in steps, and inner width divided by ``d_model``.
    dt_rank : int, optional
        Rank of the step-size projection; by default d_model / 16, rounded up.
    dt_min, dt_max : float
        Range of the initial step sizes, which are drawn uniformly on a log scale.
    form : str, optional
        Form of the scan; see `selective_scan`.
    """

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, dt_rank: int | None = None,
        dt_min: float = 0.001, dt_max: float = 0.1, form: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.d_inner, self.d_state, self.form = expand * d_model, d_state, form
        self.dt_rank = dt_rank or math.ceil(d_model / 16)
        self.norm = RMSNorm(d_model)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        step = torch.exp(torch.empty(self.d_inner).uniform_(math.log(dt_min), math.log(dt_max))).clamp_min(1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    def forward(self, x: Tensor) -> Tensor:
        """Mix x of shape (batch, length, d_model) over time and return the same shape."""
        return _mix([self], [x])[0]

    def scan_inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return x, delta, A, B, C, D of the scan, and the gate, for an input of shape (batch, length, d_model)."""
        inner, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        inner = F.silu(causal_conv(inner, self.conv1d.weight, self.conv1d.bias))
        step, B, C = self.x_proj(inner).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        wide = torch.promote_types(x.dtype, torch.float32)
        delta = F.softplus(self.dt_proj(step).to(wide))
        return inner, delta, -torch.exp(self.A_log.to(wide)), B, C, self.D, gate


class BidirectionalMamba(nn.Module):
    """Two stacks of Mamba blocks that read a sequence forwards and backwards, joined by a linear map.

    The scans of both stacks run as one for each layer.

    Parameters
    ----------
    d_model, layers : int
        Width of a step, and number of blocks in each stack.
    d_state, d_conv, expand : int
        See `Mamba`.
    form : str, optional
        Form of the scan; see `selective_scan`.
    """

    def __init__(
        self, d_model: int, layers: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, form: str | None = None
    ) -> None:
        super().__init__()

        def stack() -> nn.ModuleList:
            return nn.ModuleList(Mamba(d_model, d_state, d_conv, expand, form=form) for _ in range(layers))

        self.forwards, self.backwards = stack(), stack()
        self.join = nn.Linear(2 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Mix x of shape (batch, length, d_model) over time in both directions and return the same shape."""
        ahead, back = x, x.flip(1)
        for one, other in zip(self.forwards, self.backwards, strict=True):
            ahead, back = _mix([one, other], [ahead, back])
        return self.join(torch.cat([ahead, back.flip(1)], dim=-1))


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, computed in float32 or wider."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel with its own kernel over the current and earlier steps.

    Parameters
    ----------
    x : Tensor of shape (batch, length, dim)
    weight : Tensor of shape (dim, 1, width)
    bias : Tensor of shape (dim,), optional

    Returns
    -------
    out : Tensor of shape (batch, length, dim)
    """
    out = F.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[-1] - 1, groups=len(weight))
    return out[..., : x.shape[1]].transpose(1, 2)


def _mix(blocks: Sequence[Mamba], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the output of each block for its own input; their scans run as one, as groups of channels."""
    made = [block.scan_inputs(x) for block, x in zip(blocks, inputs, strict=True)]
    x, delta, A, B, C, D, _ = (list(parts) for parts in zip(*made, strict=True))
    if len(blocks) > 1:
        y = selective_scan(
            torch.cat(x, -1), torch.cat(delta, -1), torch.cat(A), torch.stack(B, 2), torch.stack(C, 2), torch.cat(D),
            blocks[0].form,
        ).chunk(len(blocks), dim=-1)  # fmt: skip
    else:
        y = [selective_scan(x[0], delta[0], A[0], B[0], C[0], D[0], blocks[0].form)]
    return [
        before + block.out_proj(out * F.silu(parts[-1]))
        for block, before, out, parts in zip(blocks, inputs, y, made, strict=True)
    ]
