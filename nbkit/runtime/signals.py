"""Signals that request a stop.

The first SIGTERM, SIGHUP (a closed terminal or connection) or SIGINT requests a stop at the next safe point; a second
SIGINT interrupts at once, as users expect. The earlier handlers are restored afterwards.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

# what asks a process to end; Windows has no SIGHUP
ENDING = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__)


class StopSignals:
    """Turn signals into a request to stop, as a context manager.

    Parameters
    ----------
    request_stop : callable
        Receives the name of the signal.
    say : callable
        Prints one line.
    watched : tuple of signal.Signals
        The signals to handle.
    """

    def __init__(
        self,
        request_stop: Callable[[str], None],
        say: Callable[[str], None] = print,
        watched: tuple[signal.Signals, ...] = (*ENDING, signal.SIGINT),
    ) -> None:
        self.request_stop, self.say, self.watched = request_stop, say, watched
        self.interrupted = False
        self._asked = False
        self._pid = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers; may be called again after another library, such as Lightning, has replaced them."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread set handlers; the wall still stops the training
        for number in self.watched:
            before = signal.getsignal(number)
            if number not in (signal.SIGTERM, signal.SIGINT) and before == signal.SIG_IGN:
                continue  # started with nohup, to outlive its terminal
            if before != self._handle:
                self._before.setdefault(number, before)
                signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Restore the earlier handlers."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # a DataLoader worker inherits this handler, and these signals must still end it
            if number in ENDING:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        name = signal.Signals(number).name
        if number == signal.SIGINT and self._asked:
            self.interrupted = True
            raise KeyboardInterrupt
        self._asked = True
        self.request_stop(name)
        again = " Press again to interrupt at once." if number == signal.SIGINT else ""
        self.say(f"{name}: stopping at the next safe point.{again}")
