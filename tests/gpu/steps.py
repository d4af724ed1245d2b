"""Free presets on the card: 300 steps in fp16, with peak, rate, and whether every attention has a fused kernel."""

from __future__ import annotations

import time
import warnings
from typing import Any

import lightning
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.training.brief import fit_once
from nbkit.runtime.training.bounds.pieces import choose_pieces
from tests.bench.rows import Row
from tests.gpu.memory import MOST_GB
from tests.gpu.presets import Preset

STEPS = 300
_FIRST = 20  # steps that are not timed: kernels are chosen in them
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]


class Drawn(Dataset):
    """One whole batch an item, the same few again and again: the loader is no part of what is measured."""

    def __init__(self, batches: list[Any], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.batches[index % len(self.batches)]


class Clock(lightning.Callback):
    """Seconds of the steps after the first ones, and what the scaler has skipped."""

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == _FIRST or args[-1] == _FIRST:
            torch.cuda.synchronize()
            self.began, self.at = time.perf_counter(), args[-1]

    def on_train_end(self, trainer: Any, module: Any) -> None:
        torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.began
        scaler = trainer.precision_plugin.scaler
        self.scale = float(scaler.get_scale()) if scaler is not None else 1.0


def preset_rows(preset: Preset, estimate_gb: float, steps: int | None = None) -> list[Row]:
    """Train a preset for `steps`, or for STEPS, and return its rows: rate, peak beside the estimate, kernels."""
    steps = STEPS if steps is None else steps  # not as a default: --steps sets STEPS after this file was read
    torch.manual_seed(0)
    module, batch_of = preset.make()
    batches = [batch_of(preset.batch_size) for _ in range(2)]
    loader = DataLoader(Drawn(batches, steps), batch_size=None)
    if hasattr(module, "pieces"):
        module.pieces = choose_pieces(module, batch_of, preset.batch_size, "16-mixed")
    without = _composite(module, batch_of(2))
    torch.cuda.reset_peak_memory_stats()
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_once(module, loader, steps=steps, accelerator="gpu", precision="16-mixed", callbacks=[clock])
    peak = torch.cuda.max_memory_allocated() / 1e9
    timed = steps - clock.at - 1
    rate = timed / clock.seconds
    pieces = getattr(module, "pieces", 1)
    name = preset.name
    return [
        Row(f"{name}: step", 1000 / rate, "ms", note=f"{rate:.1f} steps/s, batch {preset.batch_size}, fp16, {steps} "
            f"steps, pieces {pieces}, scale {clock.scale:.0f}"),
        Row(f"{name}: peak", peak, "GB", "estimated without a card", estimate_gb, f"< {MOST_GB:.0f} GB",
            peak < MOST_GB),
        Row(f"{name}: attention without a fused kernel", float(bool(without)), "", target="none", met=not without,
            note=without),
    ]  # fmt: skip


def _composite(module: Any, batch: Any) -> str:
    """Return what torch says where a step needs the composite attention; "" if all have a fused kernel."""
    from lightning.pytorch.utilities import move_data_to_device

    module.cuda().train()
    batch = move_data_to_device(batch, torch.device("cuda"))
    try:
        with sdpa_kernel(FUSED), torch.autocast("cuda", dtype=torch.float16), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hasattr(module, "step_parts"):
                for _ in module.step_parts(batch, 1):
                    pass
            else:
                module.training_step(batch, 1)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""
