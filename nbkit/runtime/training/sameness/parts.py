"""The parts of a training that a receipt names: options, callbacks, optimizers, schedulers.

Names and simple values only: what they hold is in the checkpoint. Options that change neither a step nor its order are
left out, so that they may change between sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning

from nbkit.runtime.training.same_training import check_training

# the Trainer's options that a result depends on, with Lightning's defaults
OPTIONS: dict[str, Any] = {
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": "norm",
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
    "limit_train_batches": 1.0,
    "limit_val_batches": 1.0,
    "sync_batchnorm": False,
}
# callbacks of Lightning that hold no state, and change the training nevertheless
_CHANGING = {"GradientAccumulationScheduler", "StochasticWeightAveraging", "BaseFinetuning", "BackboneFinetuning"}


def training_facts(seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return what a receipt records of the options, and what must be the same on resuming.

    Parameters
    ----------
    seed : int
    options : dict
        Those for the Trainer. A precision that is not among them is the device's own, which may change with the host.
    """
    facts: dict[str, Any] = {"seed": seed}
    for name, default in OPTIONS.items():
        value = default if options.get(name) is None else options[name]
        facts[name] = value if isinstance(value, int | float | str | None) else str(getattr(value, "value", value))
    if options.get("precision") is not None:
        facts["precision"] = str(options["precision"])
    return facts


class SameParts(lightning.Callback):
    """Record the callbacks, optimizers and schedulers of a training, and compare them before their state is loaded.

    Parameters
    ----------
    receipt : Receipt or None
        Of the checkpoint that the training resumes from.
    facts : dict
        What the next receipts record.
    accept : bool
        Accept that they differ.
    say : callable
    """

    def __init__(self, receipt: Any, facts: dict[str, Any], accept: bool, say: Callable[[str], None]) -> None:
        self.receipt, self.facts, self.accept, self.say = receipt, facts, accept, say

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        found = {
            "callbacks": callbacks_of(trainer),
            "optimizers": [type(optimizer).__qualname__ for optimizer in trainer.optimizers],
            "schedulers": [
                f"{type(config.scheduler).__qualname__} each {config.frequency} {config.interval}"
                for config in trainer.lr_scheduler_configs
            ],
        }
        self.facts |= found
        if self.receipt is not None:
            check_training(self.receipt, found, self.accept, self.say)


def callbacks_of(trainer: Any) -> list[str]:
    """Return the names of the callbacks that a training depends on: those with state, and those known to change it."""
    found = []
    for callback in trainer.callbacks:
        kind = type(callback)
        if kind.__module__.startswith("nbkit."):
            continue
        stateful = kind.state_dict is not lightning.Callback.state_dict
        stateful |= kind.on_save_checkpoint is not lightning.Callback.on_save_checkpoint
        if stateful or {one.__name__ for one in kind.__mro__} & _CHANGING:
            found.append(callback.state_key)
    return sorted(found)
