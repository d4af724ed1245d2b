"""What a training is made of: Lightning's callbacks, torch's schedulers and the hooks, each list read from its library.

A callback or scheduler that a new version brings is a level of the matrix by itself; where it needs arguments that are
not known here, a test says so.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks as of_lightning
from lightning.pytorch.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from torch.optim import lr_scheduler as of_torch

# -- hooks -----------------------------------------------------------------------------------------------------------


def _of_fit(name: str) -> bool:
    return not name.startswith("_") and not any(word in name for word in ("test", "predict", "sanity", "sharded"))


_MODULES_OWN = (
    "training_step", "validation_step", "configure_optimizers", "configure_callbacks", "configure_gradient_clipping",
    "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "backward",
)  # fmt: skip
_DATAS = ("prepare_data", "setup", "teardown", "train_dataloader", "val_dataloader")
_NO_HOOK = ("state_key", "train_dataloader", "val_dataloader", "prepare_data")

HOOKS = (
    *(f"callback.{name}" for name in vars(lightning.Callback) if _of_fit(name) and name not in _NO_HOOK),
    *(
        f"module.{name}"
        for owner in (ModelHooks, DataHooks, CheckpointHooks)
        for name in vars(owner)
        if _of_fit(name) and name not in _NO_HOOK
    ),
    *(f"module.{name}" for name in _MODULES_OWN),
    *(f"data.{name}" for name in _DATAS),
)


# -- schedulers ------------------------------------------------------------------------------------------------------


class OwnScheduler(of_torch.LRScheduler):
    """A user's own: it counts in an attribute."""

    def __init__(self, optimizer: Any) -> None:
        self.seen = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        self.seen += 1
        return [base / (1 + self.seen % 5) for base in self.base_lrs]


_MAKE_SCHEDULER: dict[str, Callable[[Any, int], Any]] = {
    "LambdaLR": lambda opt, total: of_torch.LambdaLR(opt, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda opt, total: of_torch.MultiplicativeLR(opt, lambda step: 0.9),
    "StepLR": lambda opt, total: of_torch.StepLR(opt, 2, 0.7),
    "MultiStepLR": lambda opt, total: of_torch.MultiStepLR(opt, [1, 3, 8]),
    "ExponentialLR": lambda opt, total: of_torch.ExponentialLR(opt, 0.9),
    "SequentialLR": lambda opt, total: of_torch.SequentialLR(
        opt, [of_torch.LinearLR(opt, total_iters=3), of_torch.ExponentialLR(opt, 0.8)], [3]
    ),
    "CosineAnnealingLR": lambda opt, total: of_torch.CosineAnnealingLR(opt, 6),
    "ChainedScheduler": lambda opt, total: of_torch.ChainedScheduler(
        [of_torch.ConstantLR(opt, 0.5, 2), of_torch.ExponentialLR(opt, 0.9)]
    ),
    "ReduceLROnPlateau": lambda opt, total: of_torch.ReduceLROnPlateau(opt, factor=0.5, patience=0, threshold=0.2),
    "CyclicLR": lambda opt, total: of_torch.CyclicLR(opt, 1e-3, 1e-2, step_size_up=3, cycle_momentum=False),
    "CosineAnnealingWarmRestarts": lambda opt, total: of_torch.CosineAnnealingWarmRestarts(opt, 5),
    "OneCycleLR": lambda opt, total: of_torch.OneCycleLR(opt, 1e-2, total_steps=total + 2, cycle_momentum=False),
    "LRScheduler": lambda opt, total: OwnScheduler(opt),
    "SWALR": lambda opt, total: torch.optim.swa_utils.SWALR(opt, 1e-3, anneal_epochs=3),
}
SCHEDULERS = ("none", *of_torch.__all__, "SWALR")
INTERVALS = ("step", "epoch", "metric", "step, every 3rd", "epoch, every 2nd")


def make_scheduler(name: str, optimizer: Any, total: int) -> Any:
    """Return a scheduler of torch by its name; those that need no argument need no entry here."""
    make = _MAKE_SCHEDULER.get(name)
    return make(optimizer, total) if make else getattr(of_torch, name)(optimizer)


# -- callbacks -------------------------------------------------------------------------------------------------------


class Thaw(of_lightning.BaseFinetuning):
    """A user's own fine-tuning: the backbone learns from epoch 1 on."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, initial_denom_lr=2.0)


class Writer(of_lightning.BasePredictionWriter):
    """Nothing is predicted in a fit."""


_ARGUMENTS: dict[str, Callable[[Path, str], Any]] = {
    "BackboneFinetuning": lambda folder, metric: of_lightning.BackboneFinetuning(unfreeze_backbone_at_epoch=1),
    "BaseFinetuning": lambda folder, metric: Thaw(),
    "BasePredictionWriter": lambda folder, metric: Writer("batch"),
    "DeviceStatsMonitor": lambda folder, metric: of_lightning.DeviceStatsMonitor(cpu_stats=True),
    "EarlyStopping": lambda folder, metric: of_lightning.EarlyStopping(metric, patience=1, min_delta=0.02),
    "GradientAccumulationScheduler": lambda folder, metric: of_lightning.GradientAccumulationScheduler({0: 1, 1: 3}),
    "LambdaCallback": lambda folder, metric: of_lightning.LambdaCallback(
        on_train_batch_end=lambda trainer, module, *_: module.head.bias.data.mul_(0.99)
    ),
    "ModelPruning": lambda folder, metric: of_lightning.ModelPruning("l1_unstructured", amount=0.1),
    "OnExceptionCheckpoint": lambda folder, metric: of_lightning.OnExceptionCheckpoint(folder / "exceptions"),
    "StochasticWeightAveraging": lambda folder, metric: of_lightning.StochasticWeightAveraging(
        5e-3, swa_epoch_start=1, annealing_epochs=2
    ),
    "SpikeDetection": lambda folder, metric: of_lightning.SpikeDetection(warmup=3, rtol=50.0),
    "ThroughputMonitor": lambda folder, metric: of_lightning.ThroughputMonitor(lambda batch: len(batch[0])),
    "Timer": lambda folder, metric: of_lightning.Timer(datetime.timedelta(hours=9), verbose=False),
    "EMAWeightAveraging": lambda folder, metric: of_lightning.EMAWeightAveraging(decay=0.9),
}
CALLBACKS = ("none", *of_lightning.__all__)
CLOCKS = ("DeviceStatsMonitor", "ThroughputMonitor", "Timer")  # what these keep or log is time, never the same twice


def make_callback(name: str, folder: Path, metric: str) -> Any:
    """Return a callback of Lightning by its name."""
    make = _ARGUMENTS.get(name)
    return make(folder, metric) if make else getattr(of_lightning, name)()


def unknown_arguments() -> list[str]:
    """Return the callbacks and schedulers that need arguments which are not known here."""
    found = []
    for owner, known, given in ((of_lightning, _ARGUMENTS, 0), (of_torch, _MAKE_SCHEDULER, 1)):
        for name in owner.__all__:
            needed = [
                one
                for one in list(inspect.signature(getattr(owner, name)).parameters.values())[given:]
                if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
            ]
            if needed and name not in known:
                found.append(f"{name}({', '.join(one.name for one in needed)})")
    return found
