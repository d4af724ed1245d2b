"""What a learning-rate schedule of the user's own holds beside its state_dict, or in it and no checkpoint can hold.

A ``state_dict`` that torch gives to every schedule holds whatever its attributes are: another schedule, a random
generator, a deque. Lightning's part of a checkpoint then goes without them, and they are kept as in any other object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.caches import of_a_library
from nbkit.runtime.training.held.places import Walk
from nbkit.runtime.training.snapshot import check_storable


def state_of(schedule: Any, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the state of a schedule without what a checkpoint cannot hold, where loading does without it.

    Parameters
    ----------
    schedule : LRScheduler, or an object with a state_dict
    state : mapping, optional
        What its ``state_dict`` has returned already.
    """
    found = dict(schedule.state_dict() if state is None else state)
    inner = getattr(schedule, "_schedulers", None)
    if of_a_library(type(schedule)) and inner is not None and len(found.get("_schedulers", ())) == len(inner):
        pairs = zip(inner, found["_schedulers"], strict=True)
        return {**found, "_schedulers": [state_of(one, own) for one, own in pairs]}
    plain = getattr(type(schedule), "load_state_dict", None) is LRScheduler.load_state_dict
    if of_a_library(type(schedule)) or not plain:
        return found
    return {name: value for name, value in found.items() if _is_storable(value)}


def keep_storable(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Leave out of a checkpoint what cannot be stored of the schedules and is kept elsewhere."""
    states = checkpoint.get("lr_schedulers", [])
    configs = trainer.lr_scheduler_configs
    if len(states) == len(configs):
        pairs = zip(configs, states, strict=True)
        checkpoint["lr_schedulers"] = [state_of(config.scheduler, state) for config, state in pairs]


def walk_schedule(walk: Walk, schedule: Any, path: str) -> None:
    """Collect the places of a schedule of the user's own, and of those inside torch's, that its state leaves out."""
    if of_a_library(type(schedule)):
        for number, inner in enumerate(getattr(schedule, "_schedulers", ())):
            walk_schedule(walk, inner, f"{path}._schedulers[{number}]")
        return
    walk.holders[path] = schedule
    saved = {str(name).strip("_") for name in state_of(schedule)}
    for name, value in list(getattr(schedule, "__dict__", {}).items()):
        if name.strip("_") not in saved and name not in ("optimizer", "_get_lr_called_within_step"):
            walk._value(schedule, name, value, path, f"{path}.{name}", False, False)
    walk._classes(schedule)


def _is_storable(value: Any) -> bool:
    try:
        check_storable(value)
    except UsageError:
        return False
    return True
