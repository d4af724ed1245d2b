"""Time budget of a session, shared by the item loop, training and uploads.

A reserve is kept before the time limit (the wall). It is measured: the slowest recent save, upload and closing of this
session, with a margin. Work that would not end before the reserve begins is not started.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/self/stat")
_RECENT = 8  # measurements kept per kind; so few, because a store that becomes slow must show soon
_FIRST_RESERVE = 0.03  # reserve as a share of the limit before anything is measured
_GRACE = 20.0  # seconds after a signal by which everything ends: containers and Kaggle kill 30 s after SIGTERM
_LARGEST_SHARE = 0.25  # largest reserve as a share of the limit; a larger one would stop all work on a slow store


class Budget:
    """Remaining time of a session.

    Parameters
    ----------
    limit : float or None
        Length of the session in seconds; None for no limit.
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
        self.signalled = False
        self._cell: object = None
        self._seen: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))

    def elapsed(self) -> float:
        """Return the seconds since the session began."""
        return self.clock() - self.started

    def wall(self) -> float:
        """Return the seconds until the time limit; infinite without a limit."""
        return math.inf if self.limit is None else self.limit - self.elapsed()

    def left(self) -> float:
        """Return the seconds until the reserve begins; infinite without a limit."""
        return self.wall() - self.reserve

    @property
    def reserve(self) -> float:
        """Seconds kept before the time limit for the last save, the running uploads and the closing."""
        if self.limit is None:
            return 0.0
        measured = sum(1.5 * max(self._seen[kind], default=0.0) for kind in ("save", "upload", "flush", "close"))
        first = 0.0 if self._seen["close"] else min(_FIRST_RESERVE * self.limit, 60.0)
        return min(max(first, measured + 0.1), _LARGEST_SHARE * self.limit)

    def measured(self, kind: str, seconds: float) -> None:
        """Record the duration of a save, upload, flush or close."""
        self._seen[kind].append(seconds)

    def estimate(self, kind: str) -> float:
        """Return the longest recent duration of this kind in seconds; 0 if none was measured."""
        return max(self._seen[kind], default=0.0)

    def fits(self, seconds: float) -> bool:
        """Return whether work of this length, started now, ends before the reserve; if not, record why to stop."""
        if self.stop_reason:
            return False
        if seconds < self.left():
            return True
        self.stop_reason = "wall"
        return False

    def request_stop(self, reason: str) -> None:
        """Request that the loop or training stops at the next safe point; the first reason is kept."""
        self.stop_reason = self.stop_reason or reason

    def stop_for_signal(self, name: str) -> None:
        """Request a stop for a signal; after all but an interrupt from the keyboard, the wall comes near as well."""
        if self.stop_reason == "SIGINT":
            self.stop_reason = None  # the machine's reason outlasts a person's
        self.request_stop(name)
        self.signalled = True
        if name != "SIGINT":
            self.end_within(_GRACE)

    def begin_in(self, cell: object) -> None:
        """Begin to train in a cell; in a later one than a person's interrupt was in, that is over.

        Parameters
        ----------
        cell : object
            Differs each time that a person runs a cell; None outside of a notebook, where an interrupt holds.
        """
        if self.stop_reason == "SIGINT" and cell is not None and cell != self._cell:
            self.stop_reason, self.signalled = None, False
        self._cell = cell

    def end_within(self, seconds: float) -> None:
        """Bring the time limit near: no wait, call or upload lasts longer than this from now on."""
        end = self.elapsed() + seconds
        self.limit = end if self.limit is None else min(self.limit, end)


def process_age() -> float:
    """Return the seconds since this process started, by the clock that no one can set where the system tells it."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # Linux
        ticks = int(_STAT.read_text().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())
