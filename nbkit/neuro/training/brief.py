"""Short trainings outside of a session: stand-ins, trials, heads on frozen embeddings.

Each is one call of Lightning's Trainer on one device, takes seconds to minutes, and prints, logs and saves nothing. A
training that may be longer than a session belongs in ``session.fit``.
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
    """Train a module in one call, without printing, logging or saving anything.

    The result depends only on the module and the order of the batches; on a CPU it is the same bit for bit.

    Parameters
    ----------
    module : LightningModule
    batches, val_batches : iterable, or LightningDataModule for ``batches``
        Without ``val_batches`` there is no validation, even if a data module has a validation set.
    steps : int
        Number of optimizer steps; -1 leaves the length to ``max_epochs``.
    **options
        Options of ``lightning.Trainer``; ``accelerator`` is "cpu" by default.

    Returns
    -------
    trainer : Trainer
        The trainer after the training.
    """
    length = {} if "max_epochs" in options else {"max_epochs": -1}
    validate = {} if val_batches is not None else {"limit_val_batches": 0}
    on_interrupt = signal.getsignal(signal.SIGINT)
    with quiet_lightning(*_NOTES):
        trainer = lightning.Trainer(
            **{"accelerator": "cpu", "devices": 1, "max_steps": steps, **_SILENT, **length, **validate, **options}
        )
        # Without this, Lightning ends the training and the process at a SIGTERM, which the session handles itself.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        try:
            trainer.fit(module, batches, val_batches)
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                # After Ctrl+C Lightning ignores further ones and exits; a notebook's kernel must survive it.
                signal.signal(signal.SIGINT, on_interrupt)
                raise KeyboardInterrupt from None
            raise
    return trainer


def one_device(device: str) -> dict[str, Any]:
    """Return the Trainer's options for a device named as in torch, such as "cpu" or "cuda:1"."""
    place = torch.device(device)
    accelerator = "gpu" if place.type == "cuda" else place.type
    return {"accelerator": accelerator, "devices": 1 if place.type == "cpu" else [place.index or 0]}


def train_briefly(module: lightning.LightningModule, data: Any, steps: int, path: str | Path) -> Path:
    """Train for some steps on the CPU, save the checkpoint, and return its path.

    The same module and data give the same weights.

    Parameters
    ----------
    module : LightningModule
    data : LightningDataModule
    steps : int
        Number of optimizer steps.
    path : path
        Where to write the checkpoint.

    Returns
    -------
    path : Path
    """
    fit_once(module, data, steps=steps).save_checkpoint(path)
    return Path(path)


class BestStep(lightning.Callback):
    """Callback that leaves a module at the step with the lowest loss on held-out windows.

    The loss is computed before the first step, every ``every`` steps, and after the last one. Lightning's
    ModelCheckpoint would write each best step to disk, and cannot evaluate the module before the first step.

    Parameters
    ----------
    loss : callable
        Returns the loss of the module in its present state; NaN is never the best.
    every : int
        Number of steps between evaluations.
    weights : mapping of str to Tensor
        The weights that training changes; they are kept at the best step and restored at the end.

    Attributes
    ----------
    step : int
        The best step; 0 if no step was better than the start.
    lowest : float
        Loss at the best step.
    losses : dict of int to float
        Loss by step.
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
        if loss < self.lowest:  # False if the loss is NaN
            self.step, self.lowest = step, loss
            self._keep()

    @torch.no_grad()
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for name, value in self.weights.items():
            value.copy_(self.kept[name])

    def _loss_at(self, step: int, module: lightning.LightningModule) -> float:
        modes = [(part, part.training) for part in module.modules()]
        self.losses[step] = self.loss()
        for part, training in modes:  # one by one: frozen parts are in evaluation mode while the others train
            part.training = training
        return self.losses[step]

    def _keep(self) -> None:
        self.kept = {name: value.detach().cpu().clone() for name, value in self.weights.items()}
