"""How optimizers and learning-rate schedules were built, beside how far they are.

A checkpoint brings back everything in the state of an optimizer or schedule, also what the user gave: a OneCycleLR for
50 steps would stay one for 50 steps when max_steps has grown to 100, and a new learning rate would be ignored without a
word. So what they were built with is saved as well, and any difference is either refused or, if the user accepts it,
taken over from that step on.
"""

from __future__ import annotations

import contextlib
import functools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import numpy as np
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

_CALLABLE = (functools.partial, FunctionType, MethodType)

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
            {
                "class": type(config.scheduler).__name__,
                "state": _plain(config.scheduler.state_dict()),
                "functions": _functions(config.scheduler),
            }
            for config in trainer.lr_scheduler_configs
        ],
    }


def _functions(scheduler: Any) -> dict[str, Any]:
    """Return the plain values that a schedule's functions were made with, which are not in torch's state of it."""
    found: dict[str, Any] = {}
    for name, value in getattr(scheduler, "__dict__", {}).items():
        several = value if isinstance(value, list | tuple) else [value]
        if name == "_schedulers":
            found[name] = [_functions(one) for one in several]
        elif any(isinstance(one, _CALLABLE) for one in several):
            found[name] = [_made_with(one) for one in several]
    return found


def _made_with(value: Any, depth: int = 3) -> Any:
    """Return the arguments of a partial, or the closure's values and the defaults of a function, as far as plain."""
    if isinstance(value, functools.partial):
        parts: dict[str, Any] = {str(i): one for i, one in enumerate(value.args)} | value.keywords
        parts["function"] = value.func
    elif isinstance(value, MethodType):
        own = {} if isinstance(value.__self__, torch.nn.Module) else getattr(value.__self__, "__dict__", {})
        return _plain(own) | _made_with(value.__func__, depth)
    elif isinstance(value, FunctionType):
        code = value.__code__
        defaults = value.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        parts = dict(zip(names, defaults, strict=True)) | (value.__kwdefaults__ or {})
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # of an empty cell
                parts[name] = cell.cell_contents
    else:
        return {}
    inner = {k: _made_with(v, depth - 1) for k, v in parts.items() if isinstance(v, _CALLABLE) and depth}
    return _plain({k: v for k, v in parts.items() if not isinstance(v, _CALLABLE)}) | inner


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
    """Set in optimizers and schedules, whose state has been loaded, what they are built with in this session.

    Raises
    ------
    UsageError
        If a schedule still ends before the training does, where torch would raise an error in the middle of it.
    """
    if changes(saved, now):
        _take_over(trainer, saved, now)
    for config in trainer.lr_scheduler_configs:
        steps_at = _steps_at(trainer, config)
        if steps_at is not None:
            _check(config.scheduler, steps_at, trainer.max_steps)


def _take_over(trainer: Any, saved: Built, now: Built) -> None:
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
    """Raise an error before the first step if a schedule ends before the training does, where torch would raise one.

    A schedule by epoch, of another frequency or in manual optimization is checked when a training resumes, in
    `take_over`: here nobody knows yet how many steps it will take.
    """
    for config in trainer.lr_scheduler_configs:
        if trainer.lightning_module.automatic_optimization and (config.interval, config.frequency) == ("step", 1):
            _check(config.scheduler, lambda step: step, trainer.max_steps)


def _check(scheduler: Any, steps_at: Callable[[int], int], max_steps: int) -> None:
    """Raise an error if a schedule, of which `steps_at(step)` steps are taken at a step, has too short a OneCycleLR."""
    for cycle, first, last, where in _cycles(scheduler):
        most, taken = first + cycle.total_steps, min(steps_at(max_steps), last)
        if taken > most:
            fits = bisect_right(range(max_steps), most, key=steps_at) - 1
            total = "self.trainer.max_steps" if taken == max_steps else f"{taken - first} or more"
            raise UsageError(
                f"OneCycleLR{where} is built for {cycle.total_steps} steps, and max_steps is {max_steps}, for which it "
                f"needs {taken - first}. Build it with total_steps={total}, or give max_steps={fits}. Nothing was "
                "trained."
            )


def explain_end(error: Exception, trainer: Any) -> None:
    """Raise a UsageError with the remedy, if an error is torch's about a OneCycleLR that was stepped after its end."""
    found = re.match(r"Tried to step \d+ times\. The specified number of total steps is (\d+)", str(error))
    if found is not None:
        raise UsageError(
            f"A OneCycleLR that is built for {found[1]} steps came to its end at step {trainer.global_step} of "
            f"{trainer.max_steps}. Build it for all steps that it will take, and go on with accept_changes=True, or "
            f"give a smaller max_steps. What was saved up to here stands."
        ) from error


def _cycles(scheduler: Any, first: int = 0, last: float = float("inf"), where: str = "") -> Iterator[tuple[Any, ...]]:
    """Yield (OneCycleLR, first and last step of the whole in which it takes part, place) for those in a schedule."""
    if isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR):
        yield scheduler, first, last, where
    inner = getattr(scheduler, "_schedulers", ())
    bounds = [0, *scheduler._milestones] if hasattr(scheduler, "_milestones") else [0] * len(inner)
    ends = (
        [*(one - 1 for one in bounds[1:]), last - first] if hasattr(scheduler, "_milestones") else [last] * len(inner)
    )
    for one, begins, ends_at in zip(inner, bounds, ends, strict=False):
        place = f" in {type(scheduler).__name__}{where}"
        yield from _cycles(one, first + begins, min(last, first + ends_at), place)


def _taken(scheduler: Any) -> int:
    """Return how many steps a schedule has taken."""
    return scheduler.last_epoch if hasattr(scheduler, "last_epoch") else _taken(scheduler._schedulers[0])


def _steps_at(trainer: Any, config: Any) -> Callable[[int], int] | None:
    """Return the function that gives how many steps of a resumed schedule are taken at a step; None if unknown.

    In manual optimization it is the least that they can be, by how many were taken until now.
    """
    if not list(_cycles(config.scheduler)):
        return None
    now, taken = trainer.global_step, _taken(config.scheduler)
    if not trainer.lightning_module.automatic_optimization:
        # how far it is in a period is unknown, unless it has taken one with each step
        rate = taken if taken == now > 1 else max(0, taken - 1)
        return lambda step: taken + max(0, step - now) * rate // max(1, now)
    batches, together, every = trainer.num_training_batches, trainer.accumulate_grad_batches, config.frequency
    if not isinstance(batches, int) or not batches:
        return None
    ends = [one for one in range(1, batches + 1) if one % together == 0 or one == batches]
    steps = [config.interval == "step" and one % every == 0 for one in ends]

    def count(step: int) -> int:
        epochs, rest = divmod(step, len(ends))
        whole = epochs // every if config.interval == "epoch" else 0
        return whole + sum(steps) * epochs + sum(steps[:rest])

    return lambda step: taken + max(0, count(step) - count(now))


def _plain(value: Any) -> Any:
    """Return a value with only what can be saved and compared; other entries are left out."""
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() < 100 else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if _has_plain(v)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if _has_plain(item)]
    if isinstance(value, np.generic):
        value = value.item()
    # a number of numpy's is a float too, but not for a checkpoint
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), None)


def _has_plain(value: Any) -> bool:
    return isinstance(value, type(None) | bool | int | float | str | dict | list | tuple | torch.Tensor | np.generic)


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
        elif key == "lr_lambdas":
            for function, a, b in zip(scheduler.lr_lambdas, then[key], value, strict=False):
                getattr(function, "__dict__", {}).update({k: v for k, v in (b or {}).items() if (a or {}).get(k) != v})
        elif hasattr(scheduler, key):
            kind = type(getattr(scheduler, key))
            setattr(scheduler, key, _restored(value, kind))


def _restored(value: Any, kind: type) -> Any:
    if isinstance(value, dict):  # milestones of MultiStepLR, whose keys are numbers
        return kind({int(k) if k.lstrip("-").isdigit() else k: v for k, v in value.items()})
    return kind(value) if isinstance(value, list) and kind in (list, tuple) else value
