"""How long validations take, and whether the one under way still ends before the wall.

The budget is asked in front of every training batch, and a validation has many batches of its own behind one of those.
So it is asked in front of each of them too, and a validation that would pass the wall is left.
"""

from __future__ import annotations

from nbkit.runtime.budget import Budget

_ROOM = 3  # lengths of the last validation that must be left, for another one to begin without a save in front of it


class ValidationTime:
    """Measure validations against a budget.

    Parameters
    ----------
    budget : Budget

    Attributes
    ----------
    seconds : float or None
        Of the last whole validation in this session; None before there was one.
    within_batch : float
        Seconds of validation since the training batch under way began.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.seconds: float | None = None
        self.within_batch = 0.0
        self.batches = 0
        self._began = self._batch_began = budget.clock()
        self._slowest = 0.0

    def begin(self) -> None:
        """Note that a validation begins."""
        self._began = self._batch_began = self.budget.clock()
        self.batches, self._slowest = 0, 0.0

    def end(self) -> None:
        """Note that it ended."""
        self.within_batch = self.seconds = self.budget.clock() - self._began

    def next_batch_passes_wall(self) -> bool:
        """Note that a batch is next, and return whether one as slow as the slowest so far would pass the reserve."""
        now = self.budget.clock()
        if self.batches:
            self._slowest = max(self._slowest, now - self._batch_began)
        self.batches += 1
        self._batch_began = now
        # not `fits`: a signal's request waits for the end, where the state can be saved
        return self._slowest >= self.budget.left()

    def why_save(self) -> str:
        """Return why the state in front of the next validation must be saved, as it may have to be left; else ""."""
        if self.seconds is None:
            return "validation of unknown length"
        return "validation near the wall" if self.budget.left() < _ROOM * self.seconds else ""
