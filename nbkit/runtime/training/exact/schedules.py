"""How optimizers and learning-rate schedules were built, beside how far they are.

A checkpoint brings back everything in the state of an optimizer or schedule, also what the user gave: a OneCycleLR for
50 steps would stay one for 50 steps when max_steps has grown to 100, and a new learning rate would be ignored without a
word. So what they were built with is saved as well, and any difference is either refused or, if the user accepts it,
taken over from that step on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nbkit.runtime.errors import UsageError

_PROGRESS = (
    "last_epoch",
    "_step_count",
    "_last_lr",
    "_is_initial",
    "best",
    "num_bad_epochs",
    "cooldown_counter",
    "T_cur",
)
_HOW = ("foreach", "fused", "capturable")  # how it is computed, which may follow the device

Built = dict[str, list[dict[str, Any]]]


def as_built(trainer: Any) -> Built:
    """Return what the optimizers and schedules were built with, before their state is loaded."""
    return {
        "optimizers": [
            {
                "class": type(optimizer).__name__,
                "groups": [_plain({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups],
            }
            for optimizer in trainer.optimizers
        ],
        "schedules": [
            {"class": type(config.scheduler).__name__, "state": _plain(config.scheduler.state_dict())}
            for config in trainer.lr_scheduler_configs
        ],
    }


def changes(saved: Built, now: Built) -> list[tuple[str, Any, Any]]:
    """Return what differs as (path, saved value, present value)."""
    found: list[tuple[str, Any, Any]] = []
    for kind in saved:
        if len(saved[kind]) != len(now[kind]):
            found.append((f"number of {kind}", len(saved[kind]), len(now[kind])))
            continue
        for number, (a, b) in enumerate(zip(saved[kind], now[kind], strict=True)):
            found.extend(_differences(a, b, f"{kind[:-1]} {number} ({b['class']})"))
    return found


def check_built(saved: Built, now: Built, accept: bool, say: Any) -> None:
    """Raise an error if optimizers or schedules are built otherwise than at the checkpoint, unless that is accepted.

    Raises
    ------
    UsageError
        If they differ; always if one has another class, whose state would mean nothing.
    """
    found = changes(saved, now)
    if not found:
        return
    shown = "; ".join(f"{path}: {then!r} -> {value!r}" for path, then, value in found[:6])
    shown += f" and {len(found) - 6} more" if len(found) > 6 else ""
    other = any(path.startswith("number of") or path.endswith(".class") for path, _, _ in found)
    if other or not accept:
        way = "" if other else "continue with them from here on (accept_changes=True), or "
        raise UsageError(
            f"The optimizers or schedules are built otherwise than at the checkpoint: {shown}. Build them as before (a "
            f"schedule that is built for max_steps changes with it), or {way}start over with fresh=True. The "
            "checkpoint is untouched."
        )
    say(f"Resuming with other optimizers or schedules: {shown}")


def take_over(trainer: Any, saved: Built, now: Built) -> None:
    """Give optimizers and schedules, whose state has been loaded, what they are built with in this session."""
    if not changes(saved, now):
        return
    configs = trainer.lr_scheduler_configs
    scheduled = {id(config.scheduler.optimizer) for config in configs if hasattr(config.scheduler, "optimizer")}
    for optimizer, a, b in zip(trainer.optimizers, saved["optimizers"], now["optimizers"], strict=True):
        for group, then, value in zip(optimizer.param_groups, a["groups"], b["groups"], strict=False):
            rate = () if id(optimizer) not in scheduled else ("lr",)
            group.update({k: v for k, v in value.items() if k not in (*_HOW, *rate) and then.get(k, v) != v})
    for config, a, b in zip(configs, saved["schedules"], now["schedules"], strict=True):
        _set(config.scheduler, a["state"], b["state"])
    for config in configs:
        # torch computes the next rate from the present one, which belongs to the old schedule
        closed = getattr(config.scheduler, "_get_closed_form_lr", None)
        if closed is not None:
            for group, rate in zip(config.scheduler.optimizer.param_groups, closed(), strict=False):
                group["lr"] = rate


def check_length(trainer: Any) -> None:
    """Raise an error before the first step if a schedule ends before the training does, where torch would raise one."""
    module = trainer.lightning_module
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if not isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR) or not module.automatic_optimization:
            continue
        if (config.interval, config.frequency) == ("step", 1) and scheduler.total_steps < trainer.max_steps:
            raise UsageError(
                f"OneCycleLR is built for {scheduler.total_steps} steps, and max_steps is {trainer.max_steps}. Build "
                f"it with total_steps=self.trainer.max_steps, or give max_steps={scheduler.total_steps}. Nothing was "
                "trained."
            )


def _plain(value: Any) -> Any:
    """Return a value with only what can be saved and compared; other entries are left out."""
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() < 100 else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if _has_plain(v)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if _has_plain(item)]
    return value


def _has_plain(value: Any) -> bool:
    return isinstance(value, type(None) | bool | int | float | str | dict | list | tuple | torch.Tensor)


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict) and not path.endswith(".milestones"):
        # an entry on one side only comes from another version of torch
        for key in a:
            if key in b and key not in (*_PROGRESS, *_HOW):
                yield from _differences(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{path}[{index}]")
    elif a != b and not (a != a and b != b):  # not a number on both sides
        yield path.replace(".groups[", ".group[").replace(".state.", "."), a, b


def _set(scheduler: Any, then: dict[str, Any], now: dict[str, Any]) -> None:
    for key, value in now.items():
        if key in _PROGRESS or key not in then or not list(_differences(then[key], value, "")):
            continue
        if key == "_schedulers":
            for inner, a, b in zip(scheduler._schedulers, then[key], value, strict=False):
                _set(inner, a, b)
        elif hasattr(scheduler, key):
            kind = type(getattr(scheduler, key))
            setattr(scheduler, key, _restored(value, kind))


def _restored(value: Any, kind: type) -> Any:
    if isinstance(value, dict):  # milestones of MultiStepLR, whose keys are numbers
        return kind({int(k) if k.lstrip("-").isdigit() else k: v for k, v in value.items()})
    return kind(value) if isinstance(value, list) and kind in (list, tuple) else value
