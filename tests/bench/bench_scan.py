"""The selective scan beside mambapy's: a forward and backward of four layers at 64 windows of 200 steps, width 64.

Both directions are two stacks, one of which reads the flipped sequence; mambapy has none of its own, so its are two of
its stacks. On CUDA where there is a card, else on two threads of a CPU; the rows say which. mambapy's sequential form
takes minutes on a CPU at this size (its backward copies all steps for every step), so there it is timed once, in one
direction and at a quarter of the batch, against ours at that size.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nbkit.neuro.nn.scan import choose_form
from nbkit.neuro.nn.ssm import BidirectionalMamba, Mamba
from tests.bench.rows import Row

BATCH, LENGTH, DIM, STATE, LAYERS = 64, 200, 64, 16, 4
CPU_THREADS = 2


class TheirBoth(nn.Module):
    """Two of mambapy's stacks, joined as ours are."""

    def __init__(self, pscan: bool) -> None:
        super().__init__()
        self.ahead, self.back = theirs(pscan), theirs(pscan)
        self.join = nn.Linear(2 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.ahead(x), self.back(x.flip(1)).flip(1)], dim=-1))


def theirs(pscan: bool) -> nn.Module:
    """Return one stack of mambapy's."""
    from mambapy.mamba import Mamba as Stack
    from mambapy.mamba import MambaConfig

    return Stack(MambaConfig(d_model=DIM, n_layers=LAYERS, d_state=STATE, pscan=pscan))


def ours(form: str | None) -> nn.Module:
    """Return one stack of ours."""
    return nn.Sequential(*(Mamba(DIM, STATE, form=form) for _ in range(LAYERS)))


def milliseconds(module: nn.Module, x: Tensor, repeats: int) -> float:
    """Return the least time of a forward and backward in ms, the first of several not counted."""
    wait: Callable[[], None] = torch.cuda.synchronize if x.is_cuda else (lambda: None)
    module, times = module.to(x.device), []
    for _ in range(repeats + (repeats > 1)):
        wait()
        began = time.perf_counter()
        module(x).square().mean().backward()
        wait()
        times.append(1e3 * (time.perf_counter() - began))
        module.zero_grad(set_to_none=True)
    return min(times[1:] or times)


def run(quick: bool) -> list[Row]:
    """Return each of our forms beside each of mambapy's; quick takes an eighth of the batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(CPU_THREADS)
    try:
        return rows(device, BATCH // 8 if quick else BATCH, quick)
    finally:
        torch.set_num_threads(before)


def rows(device: torch.device, batch: int, quick: bool) -> list[Row]:
    """Return the rows for one size."""
    torch.manual_seed(0)
    cuda = device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"CPU, {CPU_THREADS} threads"
    x, repeats = torch.randn(batch, LENGTH, DIM, device=device), 10 if cuda else 2
    size = f"{LAYERS} layers, {batch} x {LENGTH} x {DIM}, state {STATE}"
    chosen, reason = choose_form(LENGTH, device)
    mine = {
        form: (milliseconds(BidirectionalMamba(DIM, LAYERS, STATE, form=form), x, repeats),
               milliseconds(ours(form), x, repeats))
        for form in ("sequential", "parallel", *(("mamba_ssm",) if chosen == "mamba_ssm" else ()))
    }  # fmt: skip
    their_both = milliseconds(TheirBoth(True), x, repeats if cuda or quick else 1)
    their_one = milliseconds(theirs(True), x, repeats if cuda or quick else 1)
    goal = 4.0 if cuda else 1.0
    target = "a quarter of it or less" if cuda else "no slower"
    made = []
    for form, (both, one) in mine.items():
        asked, note = form == chosen, f"{where}; {reason if form == chosen else 'not chosen here'}"
        made.append(
            Row(f"scan both ways, {form}: {size}", both, "ms", "mambapy, parallel scan", their_both,
                target if asked else "", goal * both <= their_both if asked else None, note)
        )  # fmt: skip
        made.append(Row(f"scan one way, {form}: {size}", one, "ms", "mambapy, parallel scan", their_one, note=note))
    few = x if cuda or quick else x[: batch // 4]
    one, other = milliseconds(ours(None), few, repeats), milliseconds(theirs(False), few, repeats if cuda else 1)
    made.append(
        Row(f"scan one way, {chosen}: {LAYERS} layers, {len(few)} x {LENGTH} x {DIM}, state {STATE}", one, "ms",
            "mambapy, sequential", other, target, goal * one <= other, where)
    )  # fmt: skip
    return made
