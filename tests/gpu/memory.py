"""``python -m tests.gpu.memory``: the table of what each free preset needs on a GPU, estimated without one."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

import torch

from nbkit.neuro.training.steps.memory import StepMemory, step_memory
from tests.gpu.presets import PRESETS, Preset, decoding_presets

KNOWN: dict[str, float] = {}  # GB that `--estimate` has found before, by preset
MOST_GB = 14.0  # of a card with 16 GB: 15 are usable, and the context and gaps between tensors take one


@dataclass(frozen=True)
class Need:
    """Memory of a preset: in whole batches, and in the fewest pieces that fit."""

    whole: StepMemory
    pieces: int
    cut: StepMemory

    @property
    def gb(self) -> float:
        """GB of a step in these pieces."""
        return self.cut.total / 1e9


def need_gb(preset: Preset) -> float:
    """Return the GB of a preset's step, estimated without a card, now or before."""
    return KNOWN[preset.name] if preset.name in KNOWN else need_of(preset).gb


def need_of(preset: Preset) -> Need:
    """Return what a preset needs; only trainings that can be cut are."""
    whole, pieces = _memory(preset, 1), 1
    cut = whole
    while cut.total > MOST_GB * 1e9 and pieces < preset.batch_size and hasattr(preset.make()[0], "pieces"):
        pieces *= 2
        cut = _memory(preset, pieces)
    return Need(whole, pieces, cut)


def _memory(preset: Preset, pieces: int) -> StepMemory:
    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module, batch_of = preset.make()
        if pieces > 1:
            module.pieces = pieces
        return module.train(), batch_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # self.log is called without a Trainer
        return step_memory(make, preset.batch_size, fake=preset.whole)


def main(names: list[str]) -> int:
    """Print the table of all presets, or of those whose names hold one of these."""
    worst = 0.0
    print("preset                          batch  whole GB  pieces  GB in pieces")
    for preset in [*PRESETS, *decoding_presets()]:
        if names and not any(name in preset.name for name in names):
            continue
        need = need_of(preset)
        worst = max(worst, need.gb)
        row = f"{preset.batch_size:5}  {need.whole.total / 1e9:8.2f}  {need.pieces:6}  {need.gb:8.2f}"
        print(f"{preset.name:30}  {row}", flush=True)
    return int(worst > MOST_GB)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
