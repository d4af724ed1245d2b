"""The cells after the work: they end at the wall, too.

Scores and figures come after the training or the items. If they do not end in time, the cell that runs at the wall is
ended, the session is closed with work left, and the next session, whose work is done or goes on, has them again.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from nbkit.ground.background import Background
from nbkit.runtime.budget import Budget

_TICK = 0.1
_AGAIN = 5.0  # seconds between interrupts of code that goes on after one
_CLOSING = 1.0  # least seconds before the wall that are kept for closing, on a machine that does nothing else
_MOST = 15.0  # most seconds that are kept because a machine is busy
_CAN = hasattr(signal, "SIGALRM") and hasattr(signal, "pthread_kill")  # not on Windows


class Overtime:
    """Watch over what runs after the work of a session.

    Parameters
    ----------
    budget : Budget
    say : callable
        Prints one line.
    close : callable
        Closes the session.
    """

    def __init__(self, budget: Budget, say: Callable[[str], None], close: Callable[[], Any]) -> None:
        self.budget, self.say, self.close = budget, say, close
        self.cut = False  # whether a cell was ended at the wall
        self._watching, self._in_cell, self._pid = False, True, os.getpid()
        self._before: Any = None
        self._shell: Any = None
        self._thread: threading.Thread | None = None
        self._asked = -math.inf

    def begin(self) -> None:
        """Watch from now on; the work has ended."""
        main = threading.current_thread() is threading.main_thread()
        if self._watching or self.budget.limit is None or not _CAN or not main:
            return
        self._watching, self._in_cell = True, True
        self._before = signal.signal(signal.SIGALRM, self._interrupt)
        self._shell = _shell()
        if self._shell is not None:
            _without_hint()
            self._shell.events.register("pre_run_cell", self._cell_begins)
            self._shell.events.register("post_run_cell", self._cell_ends)
        if self._thread is None or not self._thread.is_alive():
            self._thread = Background(self._run, name="overtime")
            self._thread.start()

    def stop(self) -> None:
        """Stop watching, and restore the signal's earlier handler."""
        if not self._watching:
            return
        self._watching = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL if self._before is None else self._before)
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._cell_begins)
            self._shell.events.unregister("post_run_cell", self._cell_ends)

    def _at_wall(self) -> bool:
        limit = self.budget.limit
        return limit is not None and self.budget.wall() < min(self._kept(), 0.1 * limit)

    def _kept(self) -> float:
        """Return the seconds that ending a cell and closing may take: as earlier ones did, longer on a busy machine."""
        taken = max(2 * self.budget.estimate("flush"), 1.5 * self.budget.estimate("closing"))
        return max(min(_MOST, _CLOSING * busy()), taken)

    def _run(self) -> None:
        main = threading.main_thread()
        while self._watching and main.is_alive() and os.getpid() == self._pid:
            time.sleep(_TICK)
            if self._watching and self._in_cell and self._at_wall() and time.monotonic() - self._asked > _AGAIN:
                self._asked = time.monotonic()
                signal.pthread_kill(main.ident or 0, signal.SIGALRM)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._watching or not self._in_cell or not self._at_wall():
            if callable(self._before):
                self._before(number, frame)
            return
        if self._shell is not None and not _is_in_cell(frame):
            self._asked = -math.inf  # in a callback of IPython's around the cell, such as Matplotlib's: soon again
            return
        if not self.cut:
            self.cut = True
            self.say(
                "The time limit is reached in a cell after the work; it ends here, and the cells below it do not run. "
                "All work is safe. Run this notebook again: it continues from here, with the time for these cells."
            )
        raise SystemExit(0)  # ends the cell or script, not the kernel; `nbkit run` reads how the session closed

    def _cell_begins(self, info: Any = None) -> None:
        if self._shell is not None:
            _without_hint()
        self._in_cell = True

    def _cell_ends(self, result: Any = None) -> None:
        self._in_cell = False
        if self.cut and getattr(result, "success", False):
            self._asked = -math.inf  # Python ignores an exit that meets a weak reference's callback: end the next cell
        elif self.cut:  # not in the handler: there, the cell may hold any lock
            self.close()


def busy() -> float:
    """Return how many times as long everything takes as on a quiet machine: the processes that wait for each CPU."""
    if not hasattr(os, "getloadavg"):
        return 1.0
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _is_in_cell(frame: FrameType | None) -> bool:
    """Return whether IPython runs a cell's code; an exit from its own callbacks around it would end the kernel."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "run_code" and "interactiveshell" in code.co_filename:
            return True
        frame = frame.f_back
    return False


def _shell() -> Any:
    """Return the notebook's shell; None outside of one."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _without_hint() -> None:
    """Hide IPython's hint on how to leave, which it gives in red after each cell that an exit ends."""
    warnings.filterwarnings("ignore", "To exit: use", UserWarning)
