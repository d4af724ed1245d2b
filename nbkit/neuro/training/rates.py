"""Schedules of learning rates and other values that change during a training.

Each is a function of the optimizer step and the settings alone, so a resumed training has the same values as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_START = 0.005  # share of the highest rate at the first step of a linear warm-up
_CYCLE_START, _CYCLE_END = 25.0, 1e4  # OneCycleLR begins at lr / 25, and ends at that / 1e4


def linear_rate(step: int, steps: int, warmup_steps: int, final_lr_ratio: float) -> float:
    """Return the share of the highest rate at a step: linear warm-up, then linear decay.

    The rate rises over ``warmup_steps``, and falls to ``final_lr_ratio`` at the last step. The reference code of
    next-scale prediction calls these two ``--wp`` and ``--wpe``.

    Parameters
    ----------
    step, steps : int
        Current step, from 0, and the length of the training.
    warmup_steps : int
    final_lr_ratio : float
        Last rate divided by the highest rate; 1 keeps the rate.

    Examples
    --------
    >>> [round(linear_rate(step, 101, 0, 0.1), 2) for step in (0, 50, 100)]
    [1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return _START + (1 - _START) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - 1 - warmup_steps))
    return 1 + progress * (final_lr_ratio - 1)


SHAPES = ("cos", "lin", "lin0", "lin00", "exp")
_FLAT = {"lin": 0.15, "lin0": 0.05, "lin00": 0.0, "exp": 0.15}  # share of the steps at the highest rate


def shaped_rate(shape: str, step: int, steps: int, warmup_steps: int, final_lr_ratio: float) -> float:
    """Return the share of the highest rate at a step, in a shape of the reference code of next-scale prediction.

    All rise linearly over ``warmup_steps``. Then ``cos`` falls as a cosine; ``lin`` and ``lin0`` stay at the highest
    rate for 15 % and 5 % of the rest before they fall linearly, ``lin00`` does not stay; ``exp`` stays for 15 % and
    falls exponentially.

    Parameters
    ----------
    shape : str
        One of `SHAPES` (``--sche``).
    step, steps, warmup_steps, final_lr_ratio
        As in `linear_rate`.

    Raises
    ------
    ValueError
        If the shape is unknown, or is exponential and would end at 0.

    Examples
    --------
    >>> [round(shaped_rate("lin0", step, 101, 0, 0.0), 3) for step in (0, 5, 100)]
    [1.0, 1.0, 0.0]
    """
    if shape not in SHAPES:
        raise ValueError(f"{shape!r} is no shape of a learning rate; give {', '.join(SHAPES)}.")
    if step < warmup_steps:
        return _START + (1 - _START) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - 1 - warmup_steps))
    if shape == "cos":
        return final_lr_ratio + (1 - final_lr_ratio) * (0.5 + 0.5 * math.cos(math.pi * progress))
    flat = _FLAT[shape]
    if progress < flat:
        return 1.0
    fallen = (progress - flat) / (1 - flat)
    if shape == "exp":
        if final_lr_ratio <= 0:
            raise ValueError(f"An exponential decay never reaches {final_lr_ratio}; give a final ratio above 0.")
        return math.exp(fallen * math.log(final_lr_ratio))
    return 1 + fallen * (final_lr_ratio - 1)


def cosine_rate(step: int, steps: int, warmup: int, floor: float) -> float:
    """Return the share of the highest rate at a step: linear warm-up, then cosine decay to ``floor``.

    Parameters
    ----------
    step, steps : int
        Current step, from 0, and the length of the training.
    warmup : int
        Number of warm-up steps; the rate is above 0 from the first step on.
    floor : float
        Last rate divided by the highest rate.
    """
    if step < warmup:
        return (step + 1) / warmup
    return _cosine(1.0, floor, (step - warmup) / max(1, steps - warmup))


def cosine_times_warmup(step: int, steps: int, warmup: int, floor: float) -> float:
    """Return the share of the highest rate at a step: a cosine over all steps, multiplied by a linear warm-up.

    The parameters are those of `cosine_rate`; a ``floor`` of 1 keeps the rate after the warm-up.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * _cosine(1.0, floor, step / max(1, steps))


def one_cycle(step: int, steps: int, warm: float) -> float:
    """Return the share of the highest rate at a step: cosine warm-up over a share ``warm`` of the steps, cosine decay.

    This is torch's OneCycleLR without the cycle of momentum (Smith and Topin, 2018). OneCycleLR itself raises an error
    after its last step, so a training could not be extended.
    """
    peak = max(warm * steps - 1, 1e-9)
    low, last = 1 / _CYCLE_START, 1 / _CYCLE_START / _CYCLE_END
    if step <= peak:
        return _cosine(low, 1.0, step / peak)
    return _cosine(1.0, last, (step - peak) / max(steps - 1 - peak, 1e-9))


def scaled_rate(lr_at_256: float, windows_a_step: int) -> float:
    """Return the highest rate for a number of windows per step: proportional to it, and ``lr_at_256`` at 256."""
    return lr_at_256 * windows_a_step / 256


def ramp(step: int, first: float, last: float, steps: int) -> float:
    """Return a value that goes linearly from ``first`` to ``last`` over ``steps`` steps, and then stays there."""
    return last if step >= steps else first + (last - first) * step / steps


def stage(step: int, steps: int, values: Sequence[float], until: Sequence[float]) -> float:
    """Return the value of the stage that a step is in.

    Parameters
    ----------
    step, steps : int
        Current step, from 0, and the length of the training.
    values : sequence of float
        One for each stage.
    until : sequence of float
        End of each stage but the last, as a share of the steps: (0.3, 0.6) for epochs 1-3, 4-6 and 7-10.

    Raises
    ------
    ValueError
        If the number of borders is not the number of values less one.
    """
    if len(values) != len(until) + 1:
        raise ValueError(f"Got {len(values)} values and {len(until)} borders; there must be one border fewer.")
    return values[sum(step >= border * steps for border in until)]


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(1.0, part))) / 2
