"""Calls that end with the session: a store that hangs is left when the time is up.

A call to a store cannot be interrupted, so it is made in a thread of its own. When the time is up, the caller goes on
with an error, and the thread is left behind with its call. It is a daemon thread, so that it keeps no process alive.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from nbkit.ground.background import Background
from nbkit.runtime.errors import StoreError

T = TypeVar("T")
LEAST = 2.0  # seconds that a call has which is begun when the time is already up, such as that of the last records
_AFTER = 0.5  # seconds after the end that a call has which was begun before it
_HOPELESS = 0.1  # seconds of a call that is begun after the end where another call has hung until then
_TICK = 0.2  # seconds between looks at the clock: a signal may bring the end nearer


# whose calls have hung until the end: all connections of a session have one time, and one that hangs is not asked anew
_hung: weakref.WeakSet[Any] = weakref.WeakSet()


class OutOfTime(StoreError):
    """A store had not answered when the session's time was up."""

    exit_code = 3

    def __init__(self, message: str) -> None:
        super().__init__(message, passing=True)


class _Hand:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Any] = SimpleQueue()
        self.process = os.getpid()
        self.thread = Background(_make_calls, self.calls, name="store-call")
        self.thread.start()
        # a finalizer and not __del__, which Python calls for half an object, too
        weakref.finalize(self, self.calls.put, None).atexit = False


def _make_calls(calls: SimpleQueue[Any]) -> None:
    while (call := calls.get()) is not None:
        function, result, done = call
        try:
            result.append((True, function()))
        except BaseException as error:  # raised again in the thread that waits
            result.append((False, error))
        finally:
            done.set()
        del call, function, result, done


class Bounded:
    """Make calls that are left when no time is left; each calling thread has a thread, and so a connection, of its own.

    Parameters
    ----------
    time_left : callable
        Returns the seconds that are left.
    """

    def __init__(self, time_left: Callable[[], float]) -> None:
        self._time_left = time_left
        self._clock = getattr(time_left, "__self__", self)
        self._own = threading.local()

    def call(self, function: Callable[[], T], what: str) -> T:
        """Return what a function returns.

        Raises
        ------
        OutOfTime
            If it has not returned when the time is up.
        StoreError
            If the thread that makes the calls has died, as where memory ends; it may be tried again.
        """
        hand = getattr(self._own, "hand", None)
        if hand is None or hand.process != os.getpid():  # a forked process has the object but not the thread
            hand = self._own.hand = _Hand()
        result: list[tuple[bool, Any]] = []
        done = threading.Event()
        began, in_time = time.monotonic(), self._time_left() > 0
        hand.calls.put((function, result, done))
        while not done.wait(max(0.01, min(_TICK, self._time_left()))):
            if not hand.thread.is_alive() and not done.is_set():
                self._own.hand = None
                raise StoreError(f"{what}: the thread that makes the call has died", passing=True)
            waited, left = time.monotonic() - began, self._time_left()
            least = _HOPELESS if self._clock in _hung else LEAST
            if left <= 0 and (waited >= least or (in_time and left <= -_AFTER)):
                self._own.hand = None
                _hung.add(self._clock)
                raise OutOfTime(
                    f"{what} had not ended after {waited:.1f} s, when the session's time was up. What is not in the "
                    "store stays on this machine; the next session goes on from there."
                )
        good, value = result[0]
        if good:
            return value
        raise value
