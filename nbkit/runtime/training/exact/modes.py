"""Switches that hooks set during a training: frozen parameters, modules in eval mode, options of the Trainer.

Lightning calls ``on_train_epoch_start`` only where an epoch begins. After a resume inside an epoch, whatever that hook
has switched would be switched back: a backbone unfrozen at epoch 1 would be frozen again, a BatchNorm in eval mode
would train again. The hooks are not called a second time, as they may also count, log or draw. The switches themselves
are saved and set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkit.runtime.errors import UsageError

# options that callbacks and modules change by epoch, such as GradientAccumulationScheduler
_OPTIONS = (
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_val_batches",
    "log_every_n_steps",
    "val_check_batch",
)


def switched_off(module: Any) -> dict[str, list[str]]:
    """Return the names of the parameters that are not trained and of the modules that are in eval mode."""
    return {
        "requires_grad": [name for name, parameter in module.named_parameters() if not parameter.requires_grad],
        "training": [name for name, part in module.named_modules() if not part.training],
    }


def put_back_switches(
    module: Any,
    saved: dict[str, list[str]],
    first: dict[str, list[str]],
    first_now: dict[str, list[str]],
    accept: bool,
    say: Callable[[str], None],
) -> None:
    """Set the switches to those of a checkpoint.

    Parameters
    ----------
    saved, first : dict
        What was switched off at the save, and when the session that saved it began.
    first_now : dict
        What was switched off when this session began.
    accept : bool
        Keep a switch of this session where it began with another one, instead of raising an error.

    Raises
    ------
    UsageError
        If the user has frozen or unfrozen something between the sessions.
    """
    others = []
    parts = {"requires_grad": dict(module.named_parameters()), "training": dict(module.named_modules())}
    for attribute, off in saved.items():
        changed_by_user = set(first.get(attribute, ())) ^ set(first_now.get(attribute, ()))
        gone = set(off)
        for name, part in parts[attribute].items():
            value = name not in gone
            if getattr(part, attribute) == value:
                continue
            if name in changed_by_user:
                others.append(f"{name or 'the module'}.{attribute}: {value} -> {not value}")
            else:
                # not train() or eval(), which would set all parts below it
                setattr(part, attribute, value)
    if not others:
        return
    shown = "; ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
    if not accept:
        raise UsageError(
            f"The module is frozen otherwise than at the checkpoint: {shown}. Build it as before, or continue with the "
            "new values (accept_changes=True), or start over with fresh=True. The checkpoint is untouched."
        )
    say(f"Resuming with other parts frozen: {shown}")


def options(trainer: Any) -> dict[str, Any]:
    """Return the options of the Trainer that hooks may change."""
    return {name: getattr(trainer, name, None) for name in _OPTIONS}


def changed_options(trainer: Any, first: dict[str, Any]) -> dict[str, Any]:
    """Return the options that differ from those that the training of this session began with."""
    return {name: value for name, value in options(trainer).items() if value != first[name]}


def put_back_options(trainer: Any, saved: dict[str, Any]) -> None:
    """Set the options that had been changed at the save; all others are the user's to choose anew."""
    for name, value in saved.items():
        setattr(trainer, name, value)
