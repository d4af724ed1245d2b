"""Epochs of the command: their checkpoints, their log, and the order of their windows.

A run resumes at the last complete epoch. Order and random numbers of an epoch follow from the seed and its number, so
that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from nbkit.ground.files import write_atomically


class AtomicIO(TorchCheckpointIO):
    """Write checkpoints so that a kill never leaves a damaged one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))


class EachEpoch(lightning.Callback):
    """Save the last and the best epoch, print a line, and derive random numbers from the epoch.

    Parameters
    ----------
    folder : Path
    name : str
        Prefix of the files, ``<name>-last.pth`` and ``<name>-best.pth``.
    monitor : str
        Validation score; the lowest is the best.
    seed : int
    """

    def __init__(self, folder: Path, name: str, monitor: str, seed: int) -> None:
        self.folder, self.name, self.monitor, self.seed = folder, name, monitor, seed
        self.best = math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 4096 + trainer.global_rank)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        value = scores[self.monitor]
        better = value < self.best
        self.best = min(self.best, value)
        if better:
            trainer.save_checkpoint(self.folder / f"{self.name}-best.pth")
        trainer.save_checkpoint(self.folder / f"{self.name}-last.pth")  # last: it counts as done from here on
        if trainer.is_global_zero:
            line = (
                f"{self.name} epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, step {trainer.global_step}: "
                f"train_loss {scores['train_loss']:.5g}, {self.monitor} {value:.5g}, best {self.best:.5g}"
            )
            with open(self.folder / "log.txt", "a") as file:
                file.write(line + "\n")
            print(line, flush=True)  # last: who reads the line may kill the run at once, and the log holds it by then


def loader(dataset: Dataset, batch: int, world: int, rank: int, seed: int, workers: int) -> DataLoader:
    """Return a loader whose order follows from the seed and the epoch, split among the processes."""
    order = DistributedSampler(dataset, world, rank, shuffle=True, seed=seed)  # Lightning tells it the epoch
    return DataLoader(dataset, batch, sampler=order, num_workers=workers)
