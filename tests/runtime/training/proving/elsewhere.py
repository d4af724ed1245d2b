"""A module of the user's that holds state, as one that a notebook imports by its name."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(3)
STEPS = 0


def noise() -> float:
    """Draw from a generator of this module."""
    return float(RNG.normal())


def counted() -> int:
    """Count the calls in a global of this module."""
    global STEPS
    STEPS += 1
    return STEPS


def remembered() -> int:
    """Count the calls in an attribute of this function."""
    remembered.calls = getattr(remembered, "calls", 0) + 1  # type: ignore[attr-defined]
    return remembered.calls  # type: ignore[attr-defined]


def rarely_written(path: str) -> None:
    """Write a file; nothing reads it."""
    with open(path, "a") as file:
        file.write("a step\n")
