"""A watch over the item in work: one that hangs is interrupted and recorded as failed, and never passes the wall.

Without a limit of its own, an item may take many times as long as the slowest one so far. The interrupt is an error,
`ItemTimeout`, raised where the item stands. It reaches Python code and most waiting; code in C that does not return
cannot be interrupted. Where such an item reaches the wall, the process saves what is recorded and ends. Code that keeps
the interpreter's lock (a pattern of `re` on an unlucky text, an extension) lets no thread of this process run: there a
timer in C ends the process, and the mark of the item, which is in the store, tells the next session who it was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from nbkit.ground.background import Background
from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import ItemTimeout, NbkitError
from nbkit.runtime.words import show_duration

_TIMES = 20  # times as long as the slowest item so far
_AT_LEAST = 30 * 60.0  # seconds, for items of a few seconds of which one has more data
_KNOWN = 3  # items after which the slowest says something
_AGAIN = 5.0  # seconds between interrupts of code that goes on after one
_STUBBORN = 30.0  # seconds after the first of them, until an item with a limit of its own ends the process
_LOCKED = 30.0  # seconds after that, or after the wall, until the timer in C ends it
_INTERRUPT, _LEAVE = 0.5, 0.2  # parts of the reserve before the wall, left when an item is interrupted or given up
_TICK = 0.25
_UNLIMITED = 1e8  # seconds; a timer cannot be set for much longer
_STDERR = 2  # a notebook's own has no descriptor
CAN_INTERRUPT = hasattr(signal, "SIGALRM") and hasattr(signal, "pthread_kill")  # not on Windows


class Watch:
    """Interrupt items that take too long.

    Parameters
    ----------
    budget : Budget
    say : callable
        Prints one line.
    give_up : callable
        Saves what is recorded, with the key of an item that cannot be interrupted; then this process ends.
    tick : callable
        Called a few times a second while an item is in work.
    """

    def __init__(
        self, budget: Budget, say: Callable[[str], None], give_up: Callable[[str], None], tick: Callable[[], None]
    ) -> None:
        self.budget, self.say, self.give_up, self.tick = budget, say, give_up, tick
        self.limit: float | None = None
        self._slowest, self._count = 0.0, 0
        self._key: str | None = None
        self._deadline = self._began = 0.0
        self._thread: threading.Thread | None = None
        self._before: Any = None
        self._installed = self._can = self._armed = False
        self._held: dict[str, Callable[[], bool]] = {}
        self._wanted, self._lock = False, threading.Lock()

    def use(self, limit: float | None) -> None:
        """Use this limit in seconds for the items to come; None for a multiple of the slowest one so far."""
        self.limit = limit
        self._can = CAN_INTERRUPT and threading.current_thread() is threading.main_thread()
        if limit is not None and not self._can:
            where = "outside of the main thread" if CAN_INTERRUPT else "on this system"
            self.say(f"An item that hangs cannot be interrupted {where}; item_limit has no effect.")

    def allowed(self) -> float | None:
        """Return the seconds that an item may take; None where nothing limits it but the wall."""
        if self.limit is not None or self._count < _KNOWN:
            return self.limit
        return max(_AT_LEAST, _TIMES * self._slowest)

    def begin(self, key: str) -> None:
        """Watch an item from now on."""
        self._began = time.monotonic()
        allowed = self.allowed()
        self._deadline = self._began + allowed if allowed is not None else float("inf")
        self._start()
        if self._can and signal.getsignal(signal.SIGALRM) != self._interrupt:  # an earlier item may have taken it
            before = signal.signal(signal.SIGALRM, self._interrupt)
            self._before = self._before if self._installed else before
            self._installed = True
        self._arm()
        self._key = key

    def _arm(self) -> None:
        """Set the timer in C, where there is a limit: it ends this process without a word to the store."""
        wall = self.budget.wall() if self.budget.limit is not None else float("inf")
        limit = self.limit + _STUBBORN if self.limit is not None else float("inf")
        seconds = max(0.0, min(wall, limit)) + _LOCKED  # on a busy machine this process is late, but not locked
        if seconds < _UNLIMITED:
            with contextlib.suppress(RuntimeError, ValueError, OSError):  # standard error may be closed
                faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
                self._armed = True

    def _disarm(self) -> None:
        if self._armed:
            faulthandler.cancel_dump_traceback_later()
            self._armed = False

    def end(self) -> None:
        """Stop watching the item; what it took counts for those to come."""
        self._key = None
        self._disarm()
        self.took(time.monotonic() - self._began)

    def took(self, seconds: float) -> None:
        """Take an item's time into account."""
        self._count += 1
        self._slowest = max(self._slowest, seconds)

    def hold(self, running: Mapping[str, Callable[[], bool]]) -> None:
        """Give up at the wall if one of these items, which workers have and whose loop has ended, is still not done."""
        self._held = dict(running)
        self._start()
        self._wanted = False  # but for those

    def _start(self) -> None:
        with self._lock:
            self._wanted = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = Background(self._run, name="watch")
                self._thread.start()

    def stop(self) -> None:
        """Restore the signal's earlier handler, and let the thread end."""
        self._key, self._wanted = None, False
        self._disarm()
        if self._installed and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL if self._before is None else self._before)
            self._installed = False

    def _at_wall(self) -> bool:
        return self.budget.limit is not None and self.budget.wall() < _INTERRUPT * self.budget.reserve

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        key = self._key
        if key is None or not (self._at_wall() or time.monotonic() > self._deadline):
            return
        took = show_duration(time.monotonic() - self._began)
        if self._at_wall():
            raise ItemTimeout(f"Item {key} did not end before the wall; it was interrupted after {took}.", wall=True)
        how = "item_limit" if self.limit is not None else f"{_TIMES} times the slowest item, at least 30 min"
        raise ItemTimeout(
            f"Item {key} did not end within {show_duration(self.allowed())} ({how}). It was interrupted. If it needs "
            "longer, give session.work or session.map an item_limit, such as '3h'."
        )

    def _run(self) -> None:
        """Look at the clock until nothing is watched any more or the process ends."""
        asked, main, pid = 0.0, threading.main_thread(), os.getpid()
        first: tuple[str | None, float] = (None, 0.0)  # the item that was asked, and when first
        while main.is_alive():
            time.sleep(_TICK)
            with self._lock:
                if not self._wanted and all(done() for done in self._held.values()):
                    self._thread = None
                    return
            key, now = self._key, time.monotonic()
            wall = self.budget.limit is not None and self.budget.wall() < _LEAVE * self.budget.reserve
            if wall and key is None and os.getpid() == pid:
                for held in [one for one, done in self._held.items() if not done()]:
                    self._leave(held)
            if key is None:
                continue
            with contextlib.suppress(NbkitError, MemoryError):  # a full disk, of which the loop tells
                self.tick()
            if self._installed and now - asked > _AGAIN and (self._at_wall() or now > self._deadline):
                asked, first = now, first if first[0] == key else (key, now)
                if signal.getsignal(signal.SIGALRM) == self._interrupt:  # else the item has taken it
                    signal.pthread_kill(main.ident or 0, signal.SIGALRM)
                if self.limit is not None and key == self._key and now - first[1] > _STUBBORN and os.getpid() == pid:
                    self._leave(key)
            if wall and key == self._key and os.getpid() == pid:
                self._leave(key)

    def _leave(self, key: str) -> None:
        self._disarm()  # this thread runs, and its last words may take until after the wall
        self.give_up(key)


@contextmanager
def interrupted_after(key: str, limit: float | None, left: float) -> Iterator[None]:
    """Interrupt an item on a worker where it can be: in the main thread of a process of its own.

    Parameters
    ----------
    key : str
    limit : float or None
        Seconds that it may take.
    left : float
        Seconds to the wall.
    """
    to_wall = max(1.0, left)
    seconds = to_wall if limit is None else min(limit, to_wall)
    if not CAN_INTERRUPT or threading.current_thread() is not threading.main_thread() or seconds > _UNLIMITED:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        wall = limit is None or seconds < limit
        when = "before the wall" if wall else f"within {show_duration(limit)} (item_limit)"
        raise ItemTimeout(f"Item {key} did not end {when}.", wall)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
