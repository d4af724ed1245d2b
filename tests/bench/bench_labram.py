"""LaBraM: a pretraining step and a tokenizer step, beside braindecode's Labram and a bare trunk, pass for pass

Base size, 128 channels by 2 patches of 200: 257 tokens. On CUDA batch 64 in float16, as the figures that stand in the
targets were measured on one H200; on a CPU a small batch in float32, where only the ratios say something. A pretraining
step holds two passes (both masks), the labels, the head over 8192 codes and AdamW; what it is held to is one pass
forward and backward of the others, without any of these.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.neuro.labram.backbone import cut_patches
from nbkit.neuro.labram.channels import TEN_TWENTY
from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings, make_backbone
from nbkit.neuro.nn.vq import nearest_code
from tests.bench.rows import Row

_CHANS, _TIMES, _SFREQ = 128, 400, 200.0
_FIRST = {"cuda": 3, "cpu": 1}  # turns that are not counted: kernels are chosen and compiled in them


def run(quick: bool) -> list[Row]:
    """Time one pass and whole steps, all in the same run."""
    threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # threads that wait for each other beside other work would be what is timed
    try:
        return _measured(quick)
    finally:
        torch.set_num_threads(threads)


def _measured(quick: bool) -> list[Row]:
    cuda = torch.cuda.is_available()
    device, batch = ("cuda", 64) if cuda else ("cpu", 1 if quick else 4)
    repeats = (5 if quick else 20) if cuda else (2 if quick else 4)
    where = torch.cuda.get_device_name() + ", float16" if cuda else "CPU, one thread, float32"
    size = f"batch {batch}; {where}"
    torch.manual_seed(0)
    windows = 30 * torch.randn(batch, _CHANS, _TIMES, device=device)

    passes = _passes(windows, device, repeats)
    theirs, bare, ours = passes["braindecode"], passes["bare trunk"], passes["ours"]
    rows = [
        Row("one pass, forward and backward", ours, "ms", "braindecode's Labram", theirs, ">= 1.5 x faster",
            theirs / ours >= 1.5, f"{theirs / ours:.2f} x; {size}"),
        Row("the same, beside a bare 12-layer trunk", ours, "ms", "scaled_dot_product_attention alone", bare, "", None,
            f"{ours / bare:.2f} of it"),
    ]  # fmt: skip

    tokenizer = Codebook(replace(CodebookSettings.labram_hub(), steps=1), TEN_TWENTY, _SFREQ, "ten_twenty")
    tokenizer.tokenizer.quantize.take(torch.randn(8192, 64))  # no k-means in a timed step
    student = MaskedEEG(
        replace(PretrainSettings.labram_hub(), steps=1, compile=cuda), tokenizer.tokenizer, TEN_TWENTY, _SFREQ
    )
    step_ms, step_gb = _step(student.to(device), windows, repeats)
    per_pass = step_ms / 2
    rows.append(
        Row("pretraining step, a pass of it", per_pass, "ms", "braindecode's Labram, its pass alone", theirs,
            ">= 1.5 x faster", theirs / per_pass >= 1.5,
            f"{theirs / per_pass:.2f} x; the step {step_ms:.3g} ms" + (f", {step_gb:.2f} GB" if cuda else ""))
    )  # fmt: skip
    if cuda:
        rows.append(
            Row("pretraining step", step_ms, "ms", "published, on an H200", 91.0, "<= 45 ms and 5 GB on an H200",
                step_ms <= 45 and step_gb <= 5 if "H200" in where else None, f"{step_gb:.2f} GB")
        )  # fmt: skip
    del student
    gc.collect()

    tokenizer = Codebook(replace(CodebookSettings.labram_hub(), steps=1), TEN_TWENTY, _SFREQ, "ten_twenty").to(device)
    tokenizer.tokenizer.quantize.take(torch.randn(8192, 64, device=device))
    token_ms, token_gb = _step(tokenizer, windows, repeats)
    rows.append(
        Row("tokenizer step", token_ms, "ms", "published, on an H200" if cuda else "", 48.0 if cuda else None,
            "<= 28 ms on an H200" if cuda else "", token_ms <= 28 if "H200" in where else None,
            f"{token_gb:.2f} GB; {size}" if cuda else size)
    )  # fmt: skip
    share = 100 * _unused_ms(batch, device, repeats) / token_ms
    rows.append(
        Row("counting and restarting unused codes", share, "% of a tokenizer step", "", None, "< 5 %", share < 5, where)
    )
    return rows


def _passes(windows: torch.Tensor, device: str, repeats: int) -> dict[str, float]:
    """Milliseconds of a forward and backward pass of each network, measured in turns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # braindecode warns of channels that are not told
        from braindecode.models import Labram

        theirs = Labram(n_times=_TIMES, n_chans=_CHANS, n_outputs=0, sfreq=_SFREQ).to(device)
    ours = make_backbone(PretrainSettings.labram_hub(), "ten_twenty").to(device)
    bare = nn.Sequential(*(_Bare(200, 10) for _ in range(12))).to(device)
    rows = torch.arange(1, _CHANS + 1, device=device)
    tokens = torch.randn(len(windows), 2 * _CHANS + 1, 200, device=device)
    forwards: dict[str, Callable[[], torch.Tensor]] = {
        "braindecode": lambda: theirs(windows / 100, return_all_tokens=True),
        "ours": lambda: ours(cut_patches(windows, 200), rows),
        "bare trunk": lambda: bare(tokens),
    }
    best = dict.fromkeys(forwards, float("inf"))
    for turn in range(repeats + _FIRST[device]):
        for name, forward in forwards.items():
            began = _now(device)
            with torch.autocast(device, torch.float16, enabled=device == "cuda"):
                loss = forward().float().square().mean()
            loss.backward()
            if turn >= _FIRST[device]:
                best[name] = min(best[name], _now(device) - began)
    return {name: 1000 * seconds for name, seconds in best.items()}


def _step(module: nn.Module, windows: torch.Tensor, repeats: int) -> tuple[float, float]:
    """Milliseconds and peak GB of a training step with its optimizer."""
    device = windows.device.type
    module.train()
    module.log = module.log_dict = lambda *arguments, **more: None  # no trainer here
    optimizer = module.configure_optimizers()["optimizer"]
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    best = float("inf")
    for turn in range(repeats + _FIRST[device]):
        began = _now(device)
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            loss = module.training_step({"window": windows}, 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if turn >= _FIRST[device]:
            best = min(best, _now(device) - began)
    gigabytes = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    return 1000 * best, gigabytes


def _unused_ms(batch: int, device: str, repeats: int) -> float:
    """Milliseconds that a codebook's step takes longer with restarts and counts than without."""
    from nbkit.neuro.nn.vq import EMACodebook

    vectors = F.normalize(torch.randn(batch * 2 * _CHANS, 64, device=device), dim=1)
    took = {}
    for restart in (0.0, 0.1):
        book = EMACodebook(8192, 64, init_vectors=0, restart_below=restart).to(device).train()
        indices = nearest_code(vectors, book.weight)
        seconds = float("inf")
        for _ in range(3 * repeats):
            began = _now(device)
            used = torch.zeros(8192, device=device).index_add_(0, indices, torch.ones(len(indices), device=device))
            if restart:
                book.counts.add_(used)
            book._follow(vectors, indices, used)
            seconds = min(seconds, _now(device) - began)
        took[restart] = seconds
    return 1000 * max(0.0, took[0.1] - took[0.0])


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class _Bare(nn.Module):
    """A transformer layer and nothing more: no scale, no norm of queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
