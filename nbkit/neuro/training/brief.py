"""Trainings of seconds to minutes outside of any session: stand-ins, trials, heads on frozen embeddings.

One call of Lightning's Trainer on one device, which prints, logs and saves nothing. A training that is longer than a
session belongs to ``session.fit``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from nbkit.ground.quiet import quiet_lightning

_SILENT = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip
_NOTES = (
    "num_workers", "no `val_dataloader`", "LeafSpec", "lr_scheduler.step", "Trying to infer the `batch_size`",
    "in eval mode at the start of training",
)  # fmt: skip


def fit_once(
    module: lightning.LightningModule, batches: Any, val_batches: Any = None, *, steps: int = -1, **options: Any
) -> lightning.Trainer:
    """Train a module in one go, with nothing printed, logged or saved.

    The module and the order of the batches decide the result; on a CPU it is the same down to the bit.

    Parameters
    ----------
    module : LightningModule
    batches, val_batches : iterable, or LightningDataModule for ``batches``
        Without ``val_batches`` nothing is validated, even where a data module could.
    steps : int
        Optimizer steps; -1 leaves the length to ``max_epochs``.
    **options
        Of ``lightning.Trainer``: ``accelerator``, "cpu" where it is not given, and others.

    Returns
    -------
    trainer : Trainer
        After the training.
    """
    length = {} if "max_epochs" in options else {"max_epochs": -1}
    validate = {} if val_batches is not None else {"limit_val_batches": 0}
    on_interrupt = signal.getsignal(signal.SIGINT)
    with quiet_lightning(*_NOTES):
        trainer = lightning.Trainer(
            **{"accelerator": "cpu", "devices": 1, "max_steps": steps, **_SILENT, **length, **validate, **options}
        )
        # Lightning would end the training, and the process, at a SIGTERM that a session answers by itself.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        try:
            trainer.fit(module, batches, val_batches)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                # Lightning ignores Ctrl+C from then on and exits; a notebook's kernel must survive it.
                signal.signal(signal.SIGINT, on_interrupt)
                raise KeyboardInterrupt from None
            raise
    return trainer


def one_device(device: str) -> dict[str, Any]:
    """Return the Trainer's options for a device by torch's name, such as "cpu" or "cuda:1"."""
    place = torch.device(device)
    accelerator = "gpu" if place.type == "cuda" else place.type
    return {"accelerator": accelerator, "devices": 1 if place.type == "cpu" else [place.index or 0]}


def train_briefly(module: lightning.LightningModule, data: Any, steps: int, path: str | Path) -> Path:
    """Train for some steps on the CPU and save the checkpoint; the same module and data give the same weights.

    Parameters
    ----------
    module : LightningModule
    data : LightningDataModule
    steps : int
    path : path
        Of the checkpoint.
    """
    fit_once(module, data, steps=steps).save_checkpoint(path)
    return Path(path)


class BestStep(lightning.Callback):
    """Leave a module at the step whose loss on held-out windows was lowest.

    The loss is computed before the first step, every ``every`` steps, and after the last one. Lightning's
    ModelCheckpoint would write each best step to disk, and could not look before the first step.

    Parameters
    ----------
    loss : callable
        Computes the loss of the module as it is; NaN is never the best.
    every : int
        Steps.
    weights : mapping of str to Tensor
        What is kept and put back: those of the module that change.

    Attributes
    ----------
    step : int
        The best one; 0 where no step was better than the start.
    lowest : float
        Its loss.
    losses : dict of int to float
        By step.
    kept : dict of str to Tensor
        The weights at the best step, on the CPU.
    """

    def __init__(self, loss: Callable[[], float], every: int, weights: Mapping[str, Tensor]) -> None:
        self.loss, self.every, self.weights = loss, every, weights
        self.losses: dict[int, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.step, self.lowest = 0, self._loss_at(0, pl_module)
        self._keep()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *args: Any) -> None:
        step = trainer.global_step
        if step % self.every and step != trainer.max_steps:
            return
        loss = self._loss_at(step, pl_module)
        if loss < self.lowest:  # never true of NaN
            self.step, self.lowest = step, loss
            self._keep()

    @torch.no_grad()
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for name, value in self.weights.items():
            value.copy_(self.kept[name])

    def _loss_at(self, step: int, module: lightning.LightningModule) -> float:
        modes = [(part, part.training) for part in module.modules()]
        self.losses[step] = self.loss()
        for part, training in modes:  # frozen parts stay in evaluation while the others train
            part.training = training
        return self.losses[step]

    def _keep(self) -> None:
        self.kept = {name: value.detach().cpu().clone() for name, value in self.weights.items()}
