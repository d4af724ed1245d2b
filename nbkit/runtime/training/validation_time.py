"""Duration of validations, and whether the present one ends before the time limit.

The budget is checked before every training batch, but a whole validation with many batches can follow one of them. So
the budget is also checked before every validation batch, and a validation that would exceed the time limit is aborted.
"""

from __future__ import annotations

from nbkit.runtime.budget import Budget

_ROOM = 3  # with less time left than this multiple of the last validation, the state is saved before the next one


class ValidationTime:
    """Measure validations against a budget.

    Parameters
    ----------
    budget : Budget

    Attributes
    ----------
    seconds : float or None
        Duration of the last complete validation of this session; None before the first one.
    within_batch : float
        Seconds of validation since the present training batch began.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.seconds: float | None = None
        self.within_batch = 0.0
        self.batches = 0
        self._began = self._batch_began = budget.clock()
        self._slowest = 0.0

    def begin(self) -> None:
        """Record the start of a validation."""
        self._began = self._batch_began = self.budget.clock()
        self.batches, self._slowest = 0, 0.0

    def end(self) -> None:
        """Record the end of a validation."""
        self.within_batch = self.seconds = self.budget.clock() - self._began

    def next_batch_passes_wall(self) -> bool:
        """Record the start of a batch, and return whether one as slow as the slowest so far would use the reserve."""
        now = self.budget.clock()
        if self.batches:
            self._slowest = max(self._slowest, now - self._batch_began)
        self.batches += 1
        self._batch_began = now
        # not `fits`: a stop requested by a signal waits for the end of the validation, where the state can be saved
        return self._slowest >= self.budget.left()

    def why_save(self) -> str:
        """Return why the state must be saved before the next validation, which may be aborted; "" if it need not be."""
        if self.seconds is None:
            return "validation of unknown length"
        return "validation near the wall" if self.budget.left() < _ROOM * self.seconds else ""
