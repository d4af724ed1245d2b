"""Progress as lines, where a bar would not be seen.

A bar is a widget in a notebook that a person has open. In the output of `nbkit run`, and in Kaggle's log of a pushed
run, nothing of it appears, so a line a minute stands there instead.
"""

from __future__ import annotations

import os
import time

VARIABLE = "NBKIT_LINES"  # set by `nbkit run`: seconds between two lines
_EVERY = 60.0


def seconds_between_lines() -> float | None:
    """Return the seconds between two lines; None where a bar is seen."""
    given = os.environ.get(VARIABLE, "")
    if given:
        try:
            return float(given)
        except ValueError:
            return _EVERY
    return _EVERY if os.environ.get("KAGGLE_KERNEL_RUN_TYPE") == "Batch" else None


class Lines:
    """Tell when the next line is due.

    Parameters
    ----------
    every : float
        Seconds.
    """

    def __init__(self, every: float) -> None:
        self.every, self._last = every, time.monotonic()

    def due(self) -> bool:
        """Return whether that long has passed since the last line; if so, count from now."""
        now = time.monotonic()
        if now - self._last < self.every:
            return False
        self._last = now
        return True
