"""Learning rates as functions of the step and the settings alone, so that a resumed training has the same.

Next-scale prediction's reference names its warm-up ``--wp`` and the last rate's share of the highest ``--wpe``, and the
seed's page takes ``--wpe`` for a warm-up; here they are ``warmup_steps`` and ``final_lr_ratio``.
"""

from __future__ import annotations

import math

_START = 0.005  # of the highest rate, at the first step of a warm-up


def rate_share(step: int, steps: int, warmup_steps: int, final_lr_ratio: float) -> float:
    """Return the share of the highest learning rate at a step.

    It climbs linearly over ``warmup_steps``, and falls linearly to ``final_lr_ratio`` at the last step.

    Parameters
    ----------
    step, steps : int
        Where the training is, from 0, and its length.
    warmup_steps : int
        Length of the climb.
    final_lr_ratio : float
        Last rate over highest rate; 1 keeps the rate.

    Examples
    --------
    >>> [round(rate_share(step, 101, 0, 0.1), 2) for step in (0, 50, 100)]
    [1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return _START + (1 - _START) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - 1 - warmup_steps))
    return 1 + progress * (final_lr_ratio - 1)


def scaled_rate(lr_at_256: float, windows_a_step: int) -> float:
    """Return the highest learning rate for a number of windows per step: in proportion, ``lr_at_256`` at 256."""
    return lr_at_256 * windows_a_step / 256


def rate_factor(step: int, steps: int, warmup: int, floor: float) -> float:
    """Return the share of the rate at a step: linear from 0 over ``warmup``, then a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
