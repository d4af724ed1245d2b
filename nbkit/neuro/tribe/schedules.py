"""What changes while a phase trains, each as a function of the optimizer step alone.

Nothing here is remembered: a resumed training asks with the step it is at and gets what an uninterrupted one had there.
The seed counts epochs; `steps_of_epochs` is the one place where they become steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

_START, _END = 25.0, 1e4  # OneCycleLR's: begin at lr / 25, end at that / 1e4


def steps_of_epochs(epochs: float, samples: int, batch_size: int) -> int:
    """Return the optimizer steps of so many passes over the data, the last, smaller batch of a pass included.

    Raises
    ------
    ValueError
        If one of them is below 1 sample.
    """
    if min(epochs * samples, batch_size) < 1:
        raise ValueError(f"{epochs=} over {samples=} in batches of {batch_size=} is no training; give 1 or more.")
    return max(1, round(epochs * math.ceil(samples / batch_size)))


def windows_of_hours(hours: float, window_s: float, stride_s: float | None = None) -> int:
    """Return about how many windows so many hours of stimuli have."""
    return int(hours * 3600 // (stride_s or window_s))


def one_cycle(step: int, steps: int, warm: float) -> float:
    """Return the share of the peak rate at a step: a cosine up over ``warm`` of the steps, then a cosine down.

    The same as torch's OneCycleLR without its cycle of momentum (Smith and Topin, 2018).
    """
    peak = max(warm * steps - 1, 1e-9)
    low, last = 1 / _START, 1 / _START / _END
    if step <= peak:
        return _cosine(low, 1.0, step / peak)
    return _cosine(1.0, last, min(1.0, (step - peak) / max(steps - 1 - peak, 1e-9)))


def warm_cosine(step: int, steps: int, warm: float) -> float:
    """Return the share of the peak rate at a step: a line up over ``warm`` of the steps, a cosine down to 0."""
    up = max(1, round(warm * steps))
    if step < up:
        return (step + 1) / up
    return _cosine(1.0, 0.0, min(1.0, (step - up) / max(1, steps - up)))


def ramp(step: int, first: float, last: float, steps: int) -> float:
    """Go from one value to another on a line over so many steps, and stay."""
    return last if step >= steps else first + (last - first) * step / steps


def stage(step: int, steps: int, values: Sequence[float], until: Sequence[float]) -> float:
    """Return the value of the stage that a step is in.

    Parameters
    ----------
    values : sequence of float
        One a stage.
    until : sequence of float
        Where each stage but the last ends, as a share of the steps: the seed's epochs 1-3, 4-6, 7-10 are (0.3, 0.6).
    """
    if len(values) != len(until) + 1:
        raise ValueError(f"{len(values)} values and {len(until)} borders; there is one border fewer than values.")
    return values[sum(step >= border * steps for border in until)]


def group_of(name: str) -> str:
    """Return the group of a parameter by its name: backbones, projectors, embeddings, fusion or head."""
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
    """Give AdamW with a rate a group, and the schedule that multiplies all of them, as Lightning wants them.

    Parameters
    ----------
    rates : mapping of str to float
        Peak rate of each group of `group_of`; a group of rate 0 is frozen: its parameters need no gradient.
    factor : callable
        Of the step.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        group = group_of(name)
        if group not in rates:
            raise ValueError(f"no rate for {name} of the group {group!r}; rates are for {', '.join(rates)}.")
        parameter.requires_grad_(rates[group] > 0)
        if rates[group] > 0:
            groups.setdefault(group, []).append(parameter)
    made = [{"params": parameters, "lr": rates[group], "name": group} for group, parameters in groups.items()]
    optimizer = torch.optim.AdamW(made, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2
