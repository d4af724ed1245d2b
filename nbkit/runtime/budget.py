"""One deadline a session, shared by the item loop, training and uploads.

The reserve kept before the wall is measured, not guessed: the slowest recent save, upload and closing of this session,
with a margin. Nothing is begun that the estimate says cannot end before the reserve begins.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable

_RECENT = 8  # measurements kept per kind; a store that slows down must show within a few uploads
_FIRST_RESERVE = 0.03  # share of the limit kept before anything is measured
_LARGEST_SHARE = 0.25  # a reserve above a quarter of the session would stop all work on a slow store


class Budget:
    """Tell how much of a session is left and whether a piece of work still fits.

    Parameters
    ----------
    limit : float or None
        Length of the session in seconds; None for no wall.
    started : float or None
        Reading of `clock` at which the session began; now by default.
    clock : callable
        A monotonic clock in seconds.
    """

    def __init__(
        self, limit: float | None, started: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self.clock = clock
        self.started = clock() if started is None else started
        self.stop_reason: str | None = None
        self._seen: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))

    def elapsed(self) -> float:
        """Return the seconds since the session began."""
        return self.clock() - self.started

    def wall(self) -> float:
        """Return the seconds until the deadline itself; infinite without a limit."""
        return math.inf if self.limit is None else self.limit - self.elapsed()

    def left(self) -> float:
        """Return the seconds until the reserve begins; infinite without a limit."""
        return self.wall() - self.reserve

    @property
    def reserve(self) -> float:
        """Seconds kept before the wall for the last save, the uploads on their way and the closing."""
        if self.limit is None:
            return 0.0
        measured = sum(1.5 * max(self._seen[kind], default=0.0) for kind in ("save", "upload", "flush", "close"))
        first = 0.0 if self._seen["close"] else min(_FIRST_RESERVE * self.limit, 60.0)
        return min(max(first, measured + 0.1), _LARGEST_SHARE * self.limit)

    def measured(self, kind: str, seconds: float) -> None:
        """Take note that something of this kind took so long."""
        self._seen[kind].append(seconds)

    def estimate(self, kind: str) -> float:
        """Return the longest recent duration of this kind in seconds; 0 where none was measured."""
        return max(self._seen[kind], default=0.0)

    def fits(self, seconds: float) -> bool:
        """Return whether work of this length, begun now, ends before the reserve; note the wall as reason if not."""
        if self.stop_reason:
            return False
        if seconds < self.left():
            return True
        self.stop_reason = "wall"
        return False

    def request_stop(self, reason: str) -> None:
        """Ask loop and training to stop at the next safe place; the first reason stands."""
        self.stop_reason = self.stop_reason or reason


def process_age() -> float:
    """Return the seconds since this process began."""
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())
