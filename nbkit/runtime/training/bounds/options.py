"""Options of a training: which of the Trainer's are not the user's, and the length."""

from __future__ import annotations

import os
from typing import Any

from nbkit.runtime.errors import UsageError

WHOLE = "NBKIT_VALIDATION"
_OURS = {
    "max_epochs": "the length of a training is max_steps",
    "min_epochs": "the length of a training is max_steps",
    "min_steps": "the length of a training is max_steps",
    "max_time": "the session's limit ends a training, and counts this session only",
    "enable_checkpointing": "nbkit writes the checkpoints",
    "enable_progress_bar": "nbkit shows the progress",
    "enable_model_summary": "nbkit prints its own summary",
    "use_distributed_sampler": "nbkit cuts the order for several devices",
    "reload_dataloaders_every_n_epochs": "a place in reloaded data could not be found again",
    "overfit_batches": "it replaces the order that nbkit derives; give a small dataset instead",
    "fast_dev_run": "open the session with smoke=True instead",
    "barebones": "nbkit's callbacks are needed",
    "logger": "give loggers=[...]",
    "default_root_dir": "files go to the session's folder",
    "ckpt_path": "nbkit finds the checkpoint",
    "num_nodes": "torchrun says how many machines there are",
}


def check_options(options: dict[str, Any], mode: str) -> None:
    """Raise an error if an option would fight with a training in sessions.

    Raises
    ------
    UsageError
        With what to use instead.
    """
    for name in options:
        if name in _OURS:
            raise UsageError(f"{name} is not an option of fit: {_OURS[name]}. Nothing was trained.")
    every = options["val_check_interval"]
    if every is not None and not isinstance(every, int | float):
        raise UsageError(
            f"val_check_interval={every!r} validates by the clock, which would come at other steps in every run. Give "
            "a number of batches or a share of an epoch. Nothing was trained."
        )
    if mode not in ("min", "max"):
        raise UsageError(f"mode={mode!r} is unknown; allowed are 'min' and 'max'. Nothing was trained.")


def length_of(module: Any, given: int | None) -> int:
    """Return the length of a training in optimizer steps.

    Raises
    ------
    UsageError
        If it is not a whole number from 1.
    """
    value = given if given is not None else getattr(getattr(module, "settings", None), "max_steps", None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f"max_steps is {value!r}; it is the length of the whole training in optimizer steps, a whole number from "
            "1. Give it to fit or as a field of module.settings. Nothing was trained."
        )
    return value


def check_share(share: float | None) -> float | None:
    """Return the share of the time for validations; None, for whole ones, where NBKIT_VALIDATION=whole asks for them.

    A share that is chosen by time differs from machine to machine, and with it what the best checkpoint is. Whoever
    wants the same bits from a second run of the same training, as `nbkit results` does, sets this variable.

    Raises
    ------
    UsageError
        If it is not between 0 and 1.
    """
    if share is not None and not 0 < share < 1:
        raise UsageError(
            f"val_time_share={share!r} is the largest share of the time for validations, above 0 and below 1; None "
            "validates on the whole set. Nothing was trained."
        )
    asked = os.environ.get(WHOLE, "")
    if asked not in ("", "whole"):
        raise UsageError(f"{WHOLE}={asked!r}; it may be 'whole', or not be set. Nothing was trained.")
    return None if asked else share
