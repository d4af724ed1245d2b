"""Selective state spaces: the scan of Mamba in plain torch.

Gu and Dao (2023, https://arxiv.org/abs/2312.00752). However the scan is computed, the result is that of the plain
recurrence, forward and gradients. States are in float32 at least, and only those at the chunks' borders are kept for
the backward, which computes the others again. Decays are never divided by, so strong ones end in 0 and not in NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FORMS = ("sequential", "parallel", "mamba_ssm")
_CACHED = 2**21  # state values that a chunk of steps may have on a CPU: its three buffers stay in the last cache
_ROWS = 2**18  # state values a step may have on a CPU, before a batch is divided
_HELD = 2**28  # state values that all steps may have in the parallel form: three buffers of 1 GiB


def choose_form(length: int, device: torch.device) -> tuple[str, str]:
    """Return the form in which to compute a scan of so many steps, and the reason.

    Returns
    -------
    form : {"sequential", "parallel", "mamba_ssm"}
    reason : str
    """
    if device.type != "cuda":
        return "sequential", "no card: step by step, in chunks that stay in the cache"
    if _mamba_ssm():
        return "mamba_ssm", "mamba-ssm is installed: one kernel for all steps"
    if length <= 8:
        return "sequential", f"{length} steps: too few to be worth dividing"
    return "parallel", f"{length} steps as chunks side by side, about {round(2 * math.sqrt(2 * length))} launches"


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, form: str | None = None
) -> Tensor:
    """Return ``y[t] = C[t] h[t] + D x[t]`` of the states ``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]``.

    Gu and Dao (2023), algorithm 2, with the Euler step for B. The state before the first step is 0.

    Parameters
    ----------
    x, delta : Tensor of shape (batch, length, dim)
        The inputs, and each one's step, above 0.
    A : Tensor of shape (dim, state)
        Below 0.
    B, C : Tensor of shape (batch, length, state) or (batch, length, groups, state)
        With groups, the first dim / groups channels read the first group's, and so on.
    D : Tensor of shape (dim,), optional
    form : {"sequential", "parallel", "mamba_ssm"}, optional
        How to compute it; chosen by the length and the device where not given (see `choose_form`).

    Returns
    -------
    y : Tensor of shape (batch, length, dim)
        In the type of ``x``.

    Raises
    ------
    ValueError
        If shapes do not fit or the form is none.
    """
    form = form or choose_form(x.shape[1], x.device)[0]
    B, C = (t if t.dim() == 4 else t.unsqueeze(2) for t in (B, C))
    _check(x, delta, A, B, C, form)
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        if form == "mamba_ssm":
            y = _by_mamba_ssm(x, delta, A.to(wide), B, C).to(wide)
        else:
            rows = [t.to(wide).split(_rows(x.shape[1], A.numel(), form)) for t in (x, delta, B, C)]
            parts = [_Scan.apply(*part, A.to(wide), form == "parallel") for part in zip(*rows, strict=True)]
            y = parts[0] if len(parts) == 1 else torch.cat(parts)
        if D is not None:
            y = torch.addcmul(y, D.to(wide), x.to(wide))
        return y.to(x.dtype)


class _Scan(torch.autograd.Function):
    """The recurrence with a backward by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor, parallel: bool) -> Tensor:
        with _one_thread(x.device):
            work = _Chunks(x, delta, B, C, A, parallel)
            y, borders = work.outputs()
        ctx.save_for_backward(x, delta, B, C, A, borders)
        ctx.parallel = parallel
        return work.unfold(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *given, borders = ctx.saved_tensors
        with _one_thread(grad.device):
            work = _Chunks(*given, ctx.parallel)
            *grads, grad_A = work.gradients(work.fold(grad, given[2].shape[2])[..., None, :], borders)
        grad_rows = (work.unfold(g).view_as(t) for g, t in zip(grads, given[:4], strict=True))
        return *grad_rows, grad_A.reshape_as(given[4]), None


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one thread of a CPU: thousands of small operations, each of which would wait for all threads.

    On two cores that other work had in use, a step of four layers took 24 to 58 s on two threads, 7 to 13 s so.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Chunks:
    """The scan's inputs cut into chunks of steps, and buffers for the states of one.

    Inside, the axes are (steps, rows, groups, state, channels): a step's values lie together, and products with rows
    of channels read memory in order. In the parallel form the chunks lie among the rows, so there is one chunk only,
    and what crosses the borders between them is worked out first from what each makes of a state of 0.
    """

    def __init__(self, x: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor, parallel: bool) -> None:
        self.batch, self.length, _ = x.shape
        groups, state = B.shape[2:]
        self.steps = _steps(self.length, self.batch * A.numel(), parallel)
        self.folds = math.ceil(self.length / self.steps) if parallel else 1
        x, self.delta = (self.fold(t, groups)[..., None, :] for t in (x, delta))
        B, self.C = (self.fold(t.flatten(2), groups) for t in (B, C))
        self.B, self.C = B[..., None], self.C[..., None, :]
        self.A = A.view(groups, -1, state).transpose(1, 2).contiguous()
        self.x, self.driven = x, self.delta * x
        size = (self.steps, x.shape[1], *self.A.shape)
        self.decay, self.states = x.new_empty(size), x.new_empty(size)
        starts = range(0, len(x), self.steps)
        self.parts = [slice(begin, min(begin + self.steps, len(x))) for begin in starts]

    def fold(self, t: Tensor, groups: int) -> Tensor:
        """From (batch, length, groups * values) to (steps of a fold, folds * batch, groups, values)."""
        missing = self.folds * self.steps - self.length if self.folds > 1 else 0
        t = F.pad(t, (0, 0, 0, missing)).view(self.batch, self.folds, -1, groups, t.shape[2] // groups)
        return t.permute(2, 1, 0, 3, 4).flatten(1, 2).contiguous()

    def unfold(self, t: Tensor) -> Tensor:
        """Back to (batch, length, groups * values)."""
        t = t.view(len(t), self.folds, self.batch, -1).permute(2, 1, 0, 3)
        return t.reshape(self.batch, -1, t.shape[-1])[:, : self.length]

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return y and the state before each chunk."""
        y, borders = torch.empty_like(self.x), []
        state = torch.zeros_like(self.states[0])
        for part in self.parts:
            decay, states = self._decay_and_drive(part)
            if self.folds > 1:
                state = self._starts(decay, states)
            borders.append(state)
            state = _run(decay, states, state).clone()
            y[part] = self.C[part] @ states
        return y, torch.stack(borders)

    def gradients(self, grad: Tensor, borders: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x, delta, B, C and A from y's and the states before each chunk."""
        grad_x, grad_delta = torch.empty_like(self.x), torch.empty_like(self.x)
        grad_B, grad_C = torch.empty_like(self.B), torch.empty_like(self.B)
        grad_A = torch.zeros_like(self.A).view(1, -1)
        adjoint = torch.empty_like(self.states)
        later = torch.zeros_like(self.states[0])  # of the state before the chunk that follows
        for part, start in zip(reversed(self.parts), borders.flip(0), strict=True):
            decay, states = self._decay_and_drive(part)
            _run(decay, states, start)
            of_states = torch.mul(grad[part], self.C[part].transpose(-1, -2), out=adjoint[: len(states)])
            if self.folds > 1:
                later = self._ends(decay, of_states)
            later = _run_back(decay, of_states, later)
            grad_C[part] = states @ grad[part].transpose(-1, -2)
            grad_B[part] = of_states @ self.driven[part].transpose(-1, -2)
            of_driven = self.B[part].transpose(-1, -2) @ of_states
            grad_x[part] = of_driven * self.delta[part]
            decay[0].mul_(start)
            decay[1:].mul_(states[:-1])
            of_exponent = decay.mul_(of_states)
            torch.mul(of_exponent, self.delta[part], out=of_states)
            flat = of_states.view(-1, grad_A.shape[1])
            grad_A.addmm_(flat.new_ones(1, len(flat)), flat)
            grad_delta[part] = of_exponent.mul_(self.A).sum(-2, keepdim=True)
            grad_delta[part].addcmul_(of_driven, self.x[part])
        return grad_x, grad_delta, grad_B, grad_C, grad_A.view_as(self.A).transpose(1, 2)

    def _decay_and_drive(self, part: slice) -> tuple[Tensor, Tensor]:
        count = part.stop - part.start
        decay = torch.mul(self.delta[part], self.A, out=self.decay[:count]).exp_()
        return decay, torch.mul(self.driven[part], self.B[part], out=self.states[:count])

    def _starts(self, decay: Tensor, driven: Tensor) -> Tensor:
        """The state before each of the chunks that lie side by side."""
        ends = driven[0].clone()
        for k in range(1, len(driven)):
            torch.addcmul(driven[k], decay[k], ends, out=ends)
        ends, whole = self._by_fold(ends), self._by_fold(self._whole())
        starts = torch.zeros_like(ends)
        for m in range(1, self.folds):
            torch.addcmul(ends[m - 1], whole[m - 1], starts[m - 1], out=starts[m])
        return starts.flatten(0, 1)

    def _ends(self, decay: Tensor, given: Tensor) -> Tensor:
        """What the gradient of the state after each of these chunks is, from all chunks that follow."""
        begins = given[-1].clone()
        for k in range(len(given) - 2, -1, -1):
            torch.addcmul(given[k], decay[k + 1], begins, out=begins)
        begins, whole = self._by_fold(begins.mul_(decay[0])), self._by_fold(self._whole())
        ends = torch.zeros_like(begins)
        for m in range(self.folds - 1, 0, -1):
            torch.addcmul(begins[m], whole[m], ends[m], out=ends[m - 1])
        return ends.flatten(0, 1)

    def _whole(self) -> Tensor:
        """The decay over a whole chunk."""
        return torch.exp(self.delta.sum(0) * self.A)

    def _by_fold(self, t: Tensor) -> Tensor:
        return t.view(self.folds, self.batch, *t.shape[1:])


def _run(decay: Tensor, driven: Tensor, state: Tensor) -> Tensor:
    """Turn what drives the states into the states, in place, and give the last."""
    for kept, new in zip(decay.unbind(), driven.unbind(), strict=True):
        state = new.addcmul_(kept, state)
    return state


def _run_back(decay: Tensor, given: Tensor, later: Tensor) -> Tensor:
    """Turn the states' own gradients into whole ones, in place, and give that of the state before the first."""
    given[-1].add_(later)
    for k in range(len(given) - 2, -1, -1):
        given[k].addcmul_(decay[k + 1], given[k + 1])
    return decay[0] * given[0]


def _steps(length: int, values: int, parallel: bool) -> int:
    """Steps of a chunk: for the cache, or for the fewest launches (twice the steps and once the chunks)."""
    return max(1, round(math.sqrt(length / 2)) if parallel else min(length, _CACHED // values))


def _rows(length: int, values: int, form: str) -> int:
    """Rows of a batch to work on at once."""
    return max(1, _HELD // (length * values) if form == "parallel" else _ROWS // values)


@lru_cache(maxsize=1)
def _mamba_ssm() -> bool:
    return find_spec("mamba_ssm") is not None


def _by_mamba_ssm(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, delta = (t.transpose(1, 2).contiguous() for t in (x, delta.to(x.dtype)))
    B, C = (t.to(x.dtype).permute(0, 2, 3, 1).contiguous() for t in (B, C))
    return selective_scan_fn(x, delta, A, B, C).transpose(1, 2)


def _check(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, form: str) -> None:
    if form not in FORMS:
        raise ValueError(f"form={form!r} is none; allowed are {', '.join(FORMS)}, or None for a choice by device.")
    if form == "mamba_ssm" and not (x.is_cuda and _mamba_ssm()):
        raise ValueError(
            f"form='mamba_ssm' on {x.device.type}, and mamba-ssm is {'' if _mamba_ssm() else 'not '}installed; it "
            "needs a card and the package. Leave form out, and the scan runs in plain torch."
        )
    if x.dim() != 3 or x.shape[1] < 1 or delta.shape != x.shape:
        raise ValueError(
            f"x of shape {tuple(x.shape)} and delta of shape {tuple(delta.shape)}; both are (batch, length, dim), with "
            "one step at least."
        )
    batch, length, dim = x.shape
    groups, state = B.shape[-2:]
    if B.shape != C.shape or B.shape[:2] != (batch, length) or A.shape != (dim, state) or dim % groups:
        raise ValueError(
            f"A of shape {tuple(A.shape)}, B of {tuple(B.shape)} and C of {tuple(C.shape)} do not fit x of "
            f"{tuple(x.shape)}: A is (dim, state), B and C (batch, length, groups, state), and groups divide dim."
        )
