"""The parts of a training that a receipt names: options, callbacks, optimizers, schedulers, validation data.

Names and simple values only: what they hold is in the checkpoint. Options that change neither a step nor its order are
left out, so that they may change between sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning

from nbkit.runtime.training.loop_state import logged_in_validation
from nbkit.runtime.training.same_training import check_training, refuse_changes, trained_with
from nbkit.runtime.training.sameness.callback_settings import callback_settings, changed_settings, set_again
from nbkit.runtime.training.sameness.validation import changed_validation, validation_facts

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
# what the best checkpoint is chosen by
_CHOSEN_BY = ("monitor", "mode", "validation", "validated")


def training_facts(seed: int, options: dict[str, Any], monitor: str | None = None, mode: str = "min") -> dict[str, Any]:
    """Return what a receipt records of the options, and what must be the same on resuming.

    Parameters
    ----------
    seed : int
    options : dict
        Those for the Trainer. A precision that is not among them is the device's own, which may change with the host.
    monitor, mode : str
        What the best checkpoint is chosen by; without a monitor nothing is recorded of it.
    """
    facts: dict[str, Any] = {"seed": seed}
    if monitor is not None:
        facts |= {"monitor": monitor, "mode": mode}
    for name, default in OPTIONS.items():
        value = default if options.get(name) is None else options[name]
        facts[name] = value if isinstance(value, int | float | str | None) else str(getattr(value, "value", value))
    if options.get("precision") is not None:
        facts["precision"] = str(options["precision"])
    return facts


class SameParts(lightning.Callback):
    """Record callbacks, optimizers, schedulers and validation data of a training, and compare them before it begins.

    Parameters
    ----------
    receipt : Receipt or None
        Of the checkpoint that the training resumes from.
    facts : dict
        What the next receipts record.
    accept : bool
        Accept that they differ.
    saving : Checkpointing
        Prints a line, and has the best score so far.
    """

    def __init__(self, receipt: Any, facts: dict[str, Any], accept: bool, saving: Any) -> None:
        self.receipt, self.facts, self.accept, self.saving = receipt, facts, accept, saving
        self._came: list[tuple[Any, dict[str, Any]]] = []
        self._accepted: list[str] = []
        self.before = {} if receipt is None else trained_with(receipt)
        for name in _CHOSEN_BY:  # a session without a monitor leaves the best checkpoint as it is
            if name in self.before:
                self.facts.setdefault(name, self.before[name])

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        # before their state is loaded
        self._came = [(callback, dict(vars(callback))) for callback in _changing(trainer)]
        self.facts["callback_settings"] = callback_settings(callback for callback, _ in self._came)

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        schedules = trainer.lr_scheduler_configs
        found = {
            "callbacks": callbacks_of(trainer),
            "optimizers": [type(optimizer).__qualname__ for optimizer in trainer.optimizers],
            "schedulers": [
                f"{type(config.scheduler).__qualname__} each {config.frequency} {config.interval}"
                for config in schedules
            ],
            "scheduler_monitors": [config.monitor for config in schedules if config.reduce_on_plateau],
        }
        self.facts |= found
        if self.receipt is not None:
            check_training(self.receipt, found, self.accept, self.saving.say)
            made = self.facts["callback_settings"]
            self._accepted = changed_settings(self.before.get("callback_settings", {}), made)
            refuse_changes(self.receipt, self._accepted, self.accept, self.saving.say)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # a change that was not accepted has been refused
        set_again(self._came, self._accepted)
        other = any(self.facts[name] != self.before[name] for name in ("monitor", "mode") if name in self.before)
        watched = watched_by(trainer)
        monitored = self.saving.monitor is not None
        # what nothing has been chosen by so far may change
        decides = monitored or bool(watched.intersection(self.before.get("validated", ())))
        if decides or (watched and self.saving.best is None):
            found = validation_facts(trainer, self.facts["seed"], self.saving.say)
            if decides and self.before.get("validation") and found:
                changed = changed_validation(self.before["validation"], found)
                refuse_changes(self.receipt, changed, self.accept, self.saving.say)
                other |= bool(changed)
            if found:
                self.facts["validation"] = found
        if watched:
            self.facts.setdefault("validated", [])
        if other:
            self._choose_anew()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if "validated" in self.facts and not trainer.sanity_checking:
            # a new list: a thread may be writing the old one
            self.facts["validated"] = sorted({*self.facts["validated"], *logged_in_validation(trainer)})

    def _choose_anew(self) -> None:
        """Forget the best score, which is not comparable with the next ones."""
        if self.saving.best is not None:
            score = f"The best score so far, {self.saving.best:.4g}"
            self.saving.say(f"{score}, is not comparable with later ones: the best checkpoint is chosen anew")
        self.saving.best = None


def watched_by(trainer: Any) -> set[str]:
    """Return the names of the metrics that callbacks with state and schedules go by."""
    found = {config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau}
    found |= {getattr(callback, "monitor", None) for callback in _changing(trainer)}
    return {name for name in found if isinstance(name, str)}


def callbacks_of(trainer: Any) -> list[str]:
    """Return the names of the callbacks that a training depends on: those with state, and those known to change it."""
    return sorted(callback.state_key for callback in _changing(trainer))


def _changing(trainer: Any) -> Iterator[Any]:
    for callback in trainer.callbacks:
        kind = type(callback)
        if kind.__module__.startswith("nbkit."):
            continue
        stateful = kind.state_dict is not lightning.Callback.state_dict
        stateful |= kind.on_save_checkpoint is not lightning.Callback.on_save_checkpoint
        if stateful or {one.__name__ for one in kind.__mro__} & _CHANGING:
            yield callback
