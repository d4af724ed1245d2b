"""Training schedules as functions of the optimizer step.

They have no state: a resumed training gets the same values as an uninterrupted one. The seed project counts epochs;
only `steps_of_epochs` converts them to steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

_START, _END = 25.0, 1e4  # as in OneCycleLR: start at lr / 25, end at 1e-4 of that


def steps_of_epochs(epochs: float, samples: int, batch_size: int) -> int:
    """Return the optimizer steps of some passes over the data, including the last, smaller batch of each pass.

    Raises
    ------
    ValueError
        If the product of epochs and samples or the batch size is below 1.
    """
    if min(epochs * samples, batch_size) < 1:
        raise ValueError(
            f"With {epochs=} over {samples=} in batches of {batch_size=} there is no training; give 1 or more of each."
        )
    return max(1, round(epochs * math.ceil(samples / batch_size)))


def windows_of_hours(hours: float, window_s: float, stride_s: float | None = None) -> int:
    """Return the approximate number of windows in some hours of stimuli.

    Parameters
    ----------
    hours : float
    window_s : float
        Length of a window, in s.
    stride_s : float, optional
        Distance between starts of windows, in s; by default their length.
    """
    return int(hours * 3600 // (stride_s or window_s))


def one_cycle(step: int, steps: int, warm: float) -> float:
    """Return the fraction of the peak learning rate at a step: cosine warm-up, then cosine decay.

    The warm-up takes the share ``warm`` of the steps. Equal to torch's OneCycleLR without its cycle of momentum (Smith
    and Topin, 2018).
    """
    peak = max(warm * steps - 1, 1e-9)
    low, last = 1 / _START, 1 / _START / _END
    if step <= peak:
        return _cosine(low, 1.0, step / peak)
    return _cosine(1.0, last, min(1.0, (step - peak) / max(steps - 1 - peak, 1e-9)))


def warm_cosine(step: int, steps: int, warm: float) -> float:
    """Return the fraction of the peak learning rate at a step: linear warm-up, then cosine decay to 0.

    The warm-up takes the share ``warm`` of the steps.
    """
    up = max(1, round(warm * steps))
    if step < up:
        return (step + 1) / up
    return _cosine(1.0, 0.0, min(1.0, (step - up) / max(1, steps - up)))


def ramp(step: int, first: float, last: float, steps: int) -> float:
    """Return a value that changes linearly from one to another over some steps, and then stays at the last."""
    return last if step >= steps else first + (last - first) * step / steps


def stage(step: int, steps: int, values: Sequence[float], until: Sequence[float]) -> float:
    """Return the value of the stage that a step belongs to.

    Parameters
    ----------
    step, steps : int
        Current step, and number of steps.
    values : sequence of float
        One per stage.
    until : sequence of float
        End of each stage except the last, as a share of the steps: the seed project's epochs 1-3, 4-6, 7-10 are (0.3,
        0.6).

    Raises
    ------
    ValueError
        If there is not one border fewer than values.
    """
    if len(values) != len(until) + 1:
        raise ValueError(f"There are {len(values)} values and {len(until)} borders; give one border fewer than values.")
    return values[sum(step >= border * steps for border in until)]


def group_of(name: str) -> str:
    """Return the group of a parameter from its name: backbones, projectors, embeddings, fusion or head."""
    for part, group in (
        ("backbones.", "backbones"), ("trunk.projectors.", "projectors"), ("trunk.motion.", "projectors"),
        ("trunk.times", "embeddings"), ("trunk.modality", "embeddings"), ("trunk.fusion.", "fusion"),
    ):  # fmt: skip
        if part in name:
            return group
    return "head"


def optimizer_of(
    module: nn.Module, rates: Mapping[str, float], weight_decay: float, factor: Callable[[int], float]
) -> dict[str, Any]:
    """Return AdamW with one learning rate per group, and a schedule that scales all of them, in Lightning's format.

    Parameters
    ----------
    module : torch.nn.Module
    rates : mapping of str to float
        Peak learning rate of each group of `group_of`. A group with rate 0 is frozen: its parameters get no gradient.
    weight_decay : float
    factor : callable
        Maps a step to the fraction of the peak rate.

    Returns
    -------
    optimizers : dict
        Keys optimizer and lr_scheduler.

    Raises
    ------
    ValueError
        If a parameter's group has no rate.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        group = group_of(name)
        if group not in rates:
            raise ValueError(
                f"There is no rate for {name} of the group {group!r}; rates are given for {', '.join(rates)}."
            )
        parameter.requires_grad_(rates[group] > 0)
        if rates[group] > 0:
            groups.setdefault(group, []).append(parameter)
    made = [{"params": parameters, "lr": rates[group], "name": group} for group, parameters in groups.items()]
    optimizer = torch.optim.AdamW(made, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2
