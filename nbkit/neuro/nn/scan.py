"""Selective scan of Mamba (state space model) in plain torch.

Gu and Dao (2023, https://arxiv.org/abs/2312.00752). Every form gives the outputs and gradients of the plain recurrence.
States are computed in float32 or wider. Only the states at the borders of chunks are kept for the backward pass, which
recomputes the others. Nothing is divided by a decay, so strong decays give 0 and never NaN.
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
_CACHED = 2**21  # state values per chunk of steps on a CPU: its three buffers then fit into the last-level cache
_ROWS = 2**18  # state values per step on a CPU; a larger batch is split
_HELD = 2**28  # state values of all steps in the parallel form: three buffers of 1 GiB


def choose_form(length: int, device: torch.device) -> tuple[str, str]:
    """Return the fastest form for a scan of ``length`` steps on a device, and the reason.

    Returns
    -------
    form : {"sequential", "parallel", "mamba_ssm"}
    reason : str
    """
    if device.type != "cuda":
        return "sequential", "no GPU: step by step, in chunks that stay in the cache"
    if _mamba_ssm():
        return "mamba_ssm", "mamba-ssm is installed: one kernel computes all steps"
    if length <= 8:
        return "sequential", f"{length} steps: too few to divide into chunks"
    return "parallel", f"{length} steps as chunks side by side, about {round(2 * math.sqrt(2 * length))} launches"


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, form: str | None = None
) -> Tensor:
    """Return ``y[t] = C[t] h[t] + D x[t]`` for the states ``h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] x[t]``.

    Gu and Dao (2023), algorithm 2, with an Euler step for B. The state before the first step is 0.

    Parameters
    ----------
    x, delta : Tensor of shape (batch, length, dim)
        The inputs, and the step size of each, above 0.
    A : Tensor of shape (dim, state)
        Below 0.
    B, C : Tensor of shape (batch, length, state) or (batch, length, groups, state)
        With groups, the first dim / groups channels use the first group, and so on.
    D : Tensor of shape (dim,), optional
        Weight of the direct path from x to y.
    form : {"sequential", "parallel", "mamba_ssm"}, optional
        How to compute the scan; by default chosen from the length and the device (see `choose_form`).

    Returns
    -------
    y : Tensor of shape (batch, length, dim)
        In the dtype of ``x``.

    Raises
    ------
    ValueError
        If the shapes do not match, or the form is unknown or not available.
    """
    form = form or choose_form(x.shape[1], x.device)[0]
    B, C = (t if t.dim() == 4 else t.unsqueeze(2) for t in (B, C))
    _check(x, delta, A, B, C, form)
    wide = torch.promote_types(x.dtype, torch.float32)
    # autocast would compute products in half precision, and their errors add up over the steps
    with torch.autocast(x.device.type, enabled=False):
        if form == "mamba_ssm":
            y = _by_mamba_ssm(x, delta, A.to(wide), B, C).to(wide)
        else:
            # rows of the batch are independent, so a large batch is scanned in parts that fit into memory
            rows = [t.to(wide).split(_rows(x.shape[1], A.numel(), form)) for t in (x, delta, B, C)]
            parts = [_Scan.apply(*part, A.to(wide), form == "parallel") for part in zip(*rows, strict=True)]
            y = parts[0] if len(parts) == 1 else torch.cat(parts)
        if D is not None:
            y = torch.addcmul(y, D.to(wide), x.to(wide))
        return y.to(x.dtype)


class _Scan(torch.autograd.Function):
    """The recurrence as an autograd function with a hand-written backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor, parallel: bool) -> Tensor:
        with _one_thread(x.device):
            work = _Chunks(x, delta, B, C, A, parallel)
            y, borders = work.outputs()
        # only the states at the borders are kept, one per chunk; backward recomputes those between them
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
    """Run a block on one CPU thread.

    A scan is thousands of small operations, each of which would wait for all threads. On two cores shared with other
    work, a step of four layers took 24 to 58 s with two threads and 7 to 13 s with one.
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
    """The inputs of a scan cut into chunks of steps, and buffers for the states of one chunk.

    The axes are (steps, rows, groups, state, channels): the values of a step are contiguous, so products over channels
    read memory in order. In the parallel form the chunks are stacked along the rows, so that there is only one chunk in
    time. The states at the borders between them are computed first, from the result of each chunk for an initial state
    of 0.
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
        """Reshape (batch, length, groups * values) to (steps, chunks * batch, groups, values)."""
        # the last chunk is padded: delta = 0 is a decay of 1 and no input, so the state does not change
        missing = self.folds * self.steps - self.length if self.folds > 1 else 0
        t = F.pad(t, (0, 0, 0, missing)).view(self.batch, self.folds, -1, groups, t.shape[2] // groups)
        return t.permute(2, 1, 0, 3, 4).flatten(1, 2).contiguous()

    def unfold(self, t: Tensor) -> Tensor:
        """Reshape back to (batch, length, groups * values)."""
        t = t.view(len(t), self.folds, self.batch, -1).permute(2, 1, 0, 3)
        return t.reshape(self.batch, -1, t.shape[-1])[:, : self.length]

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return y and the state before each chunk."""
        y, borders = torch.empty_like(self.x), []
        state = torch.zeros_like(self.states[0])
        for part in self.parts:
            decay, states = self._decay_and_drive(part)
            # stacked chunks run side by side, so each needs its initial state before it begins
            if self.folds > 1:
                state = self._starts(decay, states)
            borders.append(state)
            state = _run(decay, states, state).clone()
            y[part] = self.C[part] @ states
        return y, torch.stack(borders)

    def gradients(self, grad: Tensor, borders: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of x, delta, B, C and A, from the gradient of y and the states before each chunk."""
        grad_x, grad_delta = torch.empty_like(self.x), torch.empty_like(self.x)
        grad_B, grad_C = torch.empty_like(self.B), torch.empty_like(self.B)
        grad_A = torch.zeros_like(self.A).view(1, -1)
        adjoint = torch.empty_like(self.states)
        later = torch.zeros_like(self.states[0])  # gradient of the state before the next chunk
        for part, start in zip(reversed(self.parts), borders.flip(0), strict=True):
            decay, states = self._decay_and_drive(part)
            # from here on states holds h[t], and of_states will hold the gradient with respect to h[t]
            _run(decay, states, start)
            of_states = torch.mul(grad[part], self.C[part].transpose(-1, -2), out=adjoint[: len(states)])
            if self.folds > 1:
                later = self._ends(decay, of_states)
            later = _run_back(decay, of_states, later)
            grad_C[part] = states @ grad[part].transpose(-1, -2)
            grad_B[part] = of_states @ self.driven[part].transpose(-1, -2)
            of_driven = self.B[part].transpose(-1, -2) @ of_states
            grad_x[part] = of_driven * self.delta[part]
            # d h[t] / d (delta A) = exp(delta A) h[t-1], written into the buffer of the decay
            decay[0].mul_(start)
            decay[1:].mul_(states[:-1])
            of_exponent = decay.mul_(of_states)
            torch.mul(of_exponent, self.delta[part], out=of_states)
            # a product with a row of ones adds the sum over steps and rows in one call
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
        """Return the initial state of each of the stacked chunks."""
        # first pass: the end state of each chunk for an initial state of 0
        ends = driven[0].clone()
        for k in range(1, len(driven)):
            torch.addcmul(driven[k], decay[k], ends, out=ends)
        ends, whole = self._by_fold(ends), self._by_fold(self._whole())
        # second pass, over chunks only: start[m] = end[m-1] + (decay over chunk m-1) start[m-1]
        starts = torch.zeros_like(ends)
        for m in range(1, self.folds):
            torch.addcmul(ends[m - 1], whole[m - 1], starts[m - 1], out=starts[m])
        return starts.flatten(0, 1)

    def _ends(self, decay: Tensor, given: Tensor) -> Tensor:
        """Return the gradient that reaches the last state of each stacked chunk from all later chunks."""
        begins = given[-1].clone()
        for k in range(len(given) - 2, -1, -1):
            torch.addcmul(given[k], decay[k + 1], begins, out=begins)
        begins, whole = self._by_fold(begins.mul_(decay[0])), self._by_fold(self._whole())
        ends = torch.zeros_like(begins)
        for m in range(self.folds - 1, 0, -1):
            torch.addcmul(begins[m], whole[m], ends[m], out=ends[m - 1])
        return ends.flatten(0, 1)

    def _whole(self) -> Tensor:
        """Return the decay over a whole chunk."""
        return torch.exp(self.delta.sum(0) * self.A)

    def _by_fold(self, t: Tensor) -> Tensor:
        return t.view(self.folds, self.batch, *t.shape[1:])


def _run(decay: Tensor, driven: Tensor, state: Tensor) -> Tensor:
    """Replace the inputs of the states by the states, in place, and return the last state."""
    # the buffer of the inputs becomes that of the states; out of place, each step would allocate a tensor
    for kept, new in zip(decay.unbind(), driven.unbind(), strict=True):
        state = new.addcmul_(kept, state)
    return state


def _run_back(decay: Tensor, given: Tensor, later: Tensor) -> Tensor:
    """Accumulate the gradients of the states backwards, in place, and return that of the initial state."""
    given[-1].add_(later)
    for k in range(len(given) - 2, -1, -1):
        given[k].addcmul_(decay[k + 1], given[k + 1])
    return decay[0] * given[0]


def _steps(length: int, values: int, parallel: bool) -> int:
    """Return the steps per chunk: what fits into the cache, or what needs the fewest launches.

    The parallel form launches two kernels per step and one per chunk.
    """
    return max(1, round(math.sqrt(length / 2)) if parallel else min(length, _CACHED // values))


def _rows(length: int, values: int, form: str) -> int:
    """Return the number of batch rows to process at once."""
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
        raise ValueError(f"Unknown form={form!r}; allowed are {', '.join(FORMS)}, or None to choose by device.")
    if form == "mamba_ssm" and not (x.is_cuda and _mamba_ssm()):
        raise ValueError(
            f"The form='mamba_ssm' was requested on {x.device.type}, and mamba-ssm is "
            f"{'' if _mamba_ssm() else 'not '}installed; it needs a GPU and the package. Leave form out, and the "
            "scan runs in plain torch."
        )
    if x.dim() != 3 or x.shape[1] < 1 or delta.shape != x.shape:
        raise ValueError(
            f"The inputs x {tuple(x.shape)} and delta {tuple(delta.shape)} must both have the shape (batch, length, "
            "dim), with at least one step."
        )
    batch, length, dim = x.shape
    groups, state = B.shape[-2:]
    if B.shape != C.shape or B.shape[:2] != (batch, length) or A.shape != (dim, state) or dim % groups:
        raise ValueError(
            f"The shapes of A {tuple(A.shape)}, B {tuple(B.shape)} and C {tuple(C.shape)} do not fit x "
            f"{tuple(x.shape)}: A is (dim, state), B and C are (batch, length, groups, state), and groups must divide "
            "dim."
        )
