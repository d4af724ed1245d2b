"""Progress line of a running session: refreshed in place on a terminal, printed every few seconds in a log."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from typing import TextIO

from nbkit.runtime.journal import Event, of_kind
from nbkit.runtime.words import counted, show_duration

EVERY = 5.0  # seconds between lines in a log; while nothing changes, twice as long each time
RARELY = 60.0
_TIMES = re.compile(r"[\d.]+ (?:s|min|h|days)\b")
_REFRESH = 1.0  # seconds between refreshes on a terminal


class LiveLine:
    """Print permanent lines, and below them one line about the present state.

    Parameters
    ----------
    file : text file
        Output, such as ``sys.stdout``.
    clock : callable
        A monotonic clock in seconds.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._terminal = file.isatty()
        self._last = clock()
        self._shown = False
        self._state, self._wait = "", EVERY

    def say(self, text: str) -> None:
        """Print a permanent line."""
        self._write(("\r\x1b[K" if self._shown else "") + f"{text}\n", shown=False)

    def refresh(self, text: str) -> None:
        """Show the present state, unless the last line is too recent."""
        now, state = self._clock(), _TIMES.sub("", text)
        wait = self._wait if state == self._state else EVERY
        if now - self._last < (_REFRESH if self._terminal else wait):
            return
        self._wait, self._state = min(2 * wait, RARELY), state
        if self._terminal:
            self._write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", shown=True)
        else:
            self._write(f"{text}\n", shown=False)

    def _write(self, text: str, shown: bool) -> None:
        self._file.write(text)
        self._file.flush()
        self._shown, self._last = shown, self._clock()


def doing(events: list[Event], now: float, began: float, limit: float) -> str:
    """Describe in one line what a running session is doing, from its journal.

    Parameters
    ----------
    events : list of dict
        The journal so far.
    now, began : float
        Present time and start of the session's process, in seconds since 1970.
    limit : float
        Length that the session was given, in seconds.
    """
    opened = next(iter(of_kind(events, "open")), None)
    if opened is None:
        return f"starting, {show_duration(now - began)}"
    work = []
    if steps := of_kind(events, "step"):
        work.append(f"step {steps[-1]['step']} ({len(steps)} in this session)")
    if items := of_kind(events, "item"):
        work.append(f"{counted(len(items), 'item')} done in this session")
    ended = {event["key"] for event in events if event["e"] in ("item", "failed")}
    begun = [event["key"] for event in of_kind(events, "begin") if event["key"] not in ended]
    work += [f"working on {begun[-1]}"] if begun else []
    if closed := of_kind(events, "close"):
        return f"closed after {show_duration(closed[-1]['t'] - opened['t'])}: {', '.join(work) or 'no item or step'}"
    return f"{show_duration(now - opened['t'])} of {show_duration(limit)}: {', '.join(work) or 'no item or step yet'}"
