"""Duration of batches and validations, and whether the present validation ends before the time limit.

The budget is checked before every training batch, but a whole validation with many batches can follow one of them. So
the budget is also checked before every validation batch, and a validation that would exceed the time limit, or that
still lasts long when a signal asks for the end, is aborted.
"""

from __future__ import annotations

import math
from collections import deque

from nbkit.runtime.budget import Budget

_RECENT = 32  # batches that the estimate of the next one looks back on
_LONG = 10.0  # seconds of a validation that a stop by a signal does not wait for
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

    def must_be_left(self, batches: float) -> bool:
        """Record the start of a batch, and return whether the validation must be left before it.

        It must be left if a batch as slow as the slowest so far would use the reserve, or if a signal asks for the end
        and what remains takes long.

        Parameters
        ----------
        batches : float
            Number of all batches of the validation.
        """
        now, done = self.budget.clock(), self.batches
        if self.batches:
            self._slowest = max(self._slowest, now - self._batch_began)
        self.batches += 1
        self._batch_began = now
        if self.budget.signalled:
            # a signal has brought the wall near: the reserve, which may be longer than that, is no measure any more
            remains = (batches - done) * (now - self._began) / done if done else 0.0
            return remains > _LONG or self._slowest >= self.budget.wall()
        # not `fits`: other stops wait for the end of the validation, where the state can be saved
        return self._slowest >= self.budget.left()

    def why_save(self) -> str:
        """Return why the state must be saved before the next validation, which may be aborted; "" if it need not be."""
        if self.seconds is None:
            return "validation of unknown length"
        if self.seconds > _LONG:
            return "long validation"
        return "validation near the wall" if self.budget.left() < _ROOM * self.seconds else ""


class BatchTime:
    """Measure the training batches (waiting for data, step, and the validation that follows).

    Parameters
    ----------
    budget : Budget
    validation : ValidationTime
        Its time within a batch is left out of the estimate.

    Attributes
    ----------
    total : float
        Seconds of all batches of this session.
    """

    def __init__(self, budget: Budget, validation: ValidationTime) -> None:
        self.budget, self.validation = budget, validation
        self.total = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._began: float | None = None

    def begin(self) -> None:
        """Record that a batch begins."""
        self._began, self.validation.within_batch = self.budget.clock(), 0.0

    def end(self) -> None:
        """Record that the batch that began last is over, with all that followed it."""
        now = self.budget.clock()
        if self._began is not None:
            self.total += now - self._began
            self._recent.append(now - self._began - self.validation.within_batch)
            self._began = None

    def typical(self) -> float:
        """Return the median seconds of the recent batches, of which the first may have compiled; 0 before any."""
        recent = sorted(self._recent)
        return recent[len(recent) // 2] if recent else 0.0

    def next(self) -> float:
        """Return the seconds that the next batch may take: the mean of the recent ones plus two standard deviations."""
        if not self._recent:
            return 0.0
        mean = sum(self._recent) / len(self._recent)
        return mean + 2 * math.sqrt(sum((s - mean) ** 2 for s in self._recent) / len(self._recent))
