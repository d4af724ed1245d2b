"""The length of a phase in steps, and an optimizer with a rate for each group of parameters.

The seed project counts epochs; `steps_of_epochs` is the one place where they become steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


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
