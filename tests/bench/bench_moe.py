"""The experts' layer beside other ways to compute it, its memory by tokens, and the whole student's step.

One step is forward, backward and AdamW at 8 samples x 100 steps x 3 modalities, width 512, top 2 of 8 experts of 1024.
On CUDA it runs in fp16 as on a T4, elsewhere on the CPU in fp32; the rows say which.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.nn.moe import MoE, choose_way
from nbkit.neuro.tribe.student.fusion import Routed
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe
from tests.bench.rows import Row

BATCH, TIMES, MODALITIES, DIM, HIDDEN, EXPERTS, TOP_K = 8, 100, 3, 512, 1024, 8, 2


class Loop(MoE):
    """A loop over experts: pick an expert's tokens by a mask, add what it gives to the sum."""

    def mix(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(tokens)
        for e in range(self.experts):
            token, rank = (chosen == e).nonzero(as_tuple=True)
            hidden = F.gelu(F.linear(tokens[token], self.w1[e].T, self.b1[e]))
            given = F.linear(hidden, self.w2[e].T, self.b2[e]) * weights[token, rank, None].to(hidden.dtype)
            out = out.to(given.dtype).index_add(0, token, given)
        return out


class Dense(nn.Module):
    """One feed-forward layer with the weights that a token of ours uses."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIM, TOP_K * HIDDEN), nn.GELU(), nn.Linear(TOP_K * HIDDEN, DIM))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.net(x), None


def stepper(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that makes one training step on x."""
    cuda = x.is_cuda
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=cuda)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16, enabled=cuda):
            out, routing = module(x)
        loss = out.float().square().mean() + (0.01 * routing.loss if routing is not None else 0.0)
        loss.backward()
        optimizer.step()

    return step


def milliseconds(steps: list[Callable[[], None]], repeats: int) -> list[float]:
    """Return each function's shortest time in ms; the functions take turns, and other work only adds to it."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(repeats + 1):
        for number, step in enumerate(steps):
            wait()
            began = time.perf_counter()
            step()
            wait()
            if turn:  # the first is a warm-up
                times[number].append(1e3 * (time.perf_counter() - began))
    return [min(values) for values in times]


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps from the forward for the backward, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)[0].sum()
    return sum(seen.values())


def run(quick: bool) -> list[Row]:
    """Return the layer's time beside its alternatives, its memory at 1 and 4 times the tokens, and a student's step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = f"{torch.cuda.get_device_name()}, fp16" if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thr."
    torch.manual_seed(0)
    x = torch.randn(BATCH, TIMES * MODALITIES, DIM, device=device)
    ours = MoE(DIM, HIDDEN, EXPERTS, TOP_K).to(device)
    others: dict[str, nn.Module] = {
        "a loop over experts": Loop(DIM, HIDDEN, EXPERTS, TOP_K),
        "all experts for every token": MoE(DIM, HIDDEN, EXPERTS, TOP_K, "dense"),
        "dense FFN of equal active weights": Dense(),
    }
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0):
        others["sorted, one product an expert"] = MoE(DIM, HIDDEN, EXPERTS, TOP_K, "sorted")
        others["grouped product"] = MoE(DIM, HIDDEN, EXPERTS, TOP_K, "grouped")
    modules = [ours, *(module.to(device) for module in others.values())]
    mine, *theirs = milliseconds([stepper(module, x) for module in modules], 3 if quick else 10)
    best = min(theirs[:2])
    tokens = BATCH * TIMES * MODALITIES
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    rows = []
    for name, value in zip(others, theirs, strict=True):
        asked = name in ("a loop over experts", "all experts for every token")
        rows.append(
            Row(
                f"MoE step, {tokens} tokens", mine, "ms", name, value,
                target="no slower than the best of loop and all experts (5 % noise)" if asked else "",
                met=mine <= 1.05 * best if asked else None, note=f"{where}; {choose_way(tokens, device, dtype)[1]}",
            )
        )  # fmt: skip
    rows += memory_rows(device, where)
    rows += few_token_rows(device, where, quick)
    return rows + student_rows(device, where, quick)


def memory_rows(device: torch.device, where: str) -> list[Row]:
    """Return what the layer keeps for the backward at 4 times the tokens beside 1 times."""
    module = MoE(DIM, HIDDEN, EXPERTS, TOP_K, "sorted").to(device)
    tokens = BATCH * TIMES * MODALITIES
    one, four = (kept_bytes(module, torch.randn(tokens * n, DIM, device=device)) / 2**20 for n in (1, 4))
    row = Row(
        f"kept for backward, {4 * tokens} tokens", four, "MiB", f"{tokens} tokens", one, "<= 4.1 times",
        four <= 4.1 * one, where,
    )  # fmt: skip
    rows = [row]
    if device.type == "cuda":
        peaks = []
        for n in (1, 4):
            step = stepper(module, torch.randn(tokens * n, DIM, device=device))
            step()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            step()
            peaks.append((torch.cuda.max_memory_allocated() - before) / 2**20)
        rows.append(
            Row("peak of a step above its weights", peaks[1], "MiB", f"{tokens} tokens", peaks[0], "<= 4.1 times",
                peaks[1] <= 4.1 * peaks[0], where)
        )  # fmt: skip
    return rows


def few_token_rows(device: torch.device, where: str, quick: bool) -> list[Row]:
    """Return the smoke size beside all experts and a loop."""
    x = torch.randn(4, 60, 64, device=device)
    modules = [MoE(64, 128, 4, 2).to(device), MoE(64, 128, 4, 2, "dense").to(device), Loop(64, 128, 4, 2).to(device)]
    mine, by_all, by_loop = milliseconds([stepper(module, x) for module in modules], 20 if quick else 60)
    note = f"{where}; {choose_way(240, device, torch.float32)[1]}"
    return [
        Row("MoE step, 240 tokens, width 64", mine, "ms", "all experts for every token", by_all, note=note),
        Row("MoE step, 240 tokens, width 64", mine, "ms", "a loop over experts", by_loop,
            "no slower (5 % noise)", mine <= 1.05 * by_loop, note),
    ]  # fmt: skip


def student_rows(device: torch.device, where: str, quick: bool) -> list[Row]:
    """Return the whole student's training step at 8 windows of 100 steps, 1000 parcels, and what it keeps in memory."""
    student = TinyTribe(StudentSettings.free()).to(device)
    sizes = {"text": 384, "audio": 384, "video": 640}
    features = {name: torch.randn(BATCH, TIMES, size, device=device) for name, size in sizes.items()}

    class Step(nn.Module):
        """The student as one tensor in, prediction and routing out."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, x: Tensor) -> tuple[Tensor, Routed]:
            said = self.student({**features, "text": x})
            return said.bold, said.routed

    module = Step()
    (taken,) = milliseconds([stepper(module, features["text"])], 1 if quick else 3)
    note = f"{where}; {sum(p.numel() for p in student.parameters()) / 1e6:.1f}M weights"
    rows = [Row("student step, 8 x 100 steps", taken, "ms", note=note)]
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        rows.append(Row("student step, peak memory", peak, "GiB", target="< 14 GiB", met=peak < 14, note=note))
    else:
        kept = kept_bytes(module, features["text"]) / 2**30
        rows.append(Row("student step, kept for backward", kept, "GiB", note=note))
    return rows
