"""What a rehearsal shows while a session runs: one line, refreshed on a terminal, every few seconds in a log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from nbkit.runtime.journal import Event, of_kind
from nbkit.runtime.words import show_duration

EVERY = 5.0  # seconds between lines in a log
_REFRESH = 1.0  # seconds between refreshes on a terminal


class LiveLine:
    """Print lines that stay, and between them a line about what is going on now.

    Parameters
    ----------
    file : text file
        Such as ``sys.stdout``.
    clock : callable
        A monotonic clock in seconds.
    """

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._terminal = file.isatty()
        self._last = clock()
        self._shown = False

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._write(("\r\x1b[K" if self._shown else "") + f"{text}\n", shown=False)

    def refresh(self, text: str) -> None:
        """Show what is going on, where the line before it is old enough."""
        now = self._clock()
        if now - self._last < (_REFRESH if self._terminal else EVERY):
            return
        if self._terminal:
            self._write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", shown=True)
        else:
            self._write(f"{text}\n", shown=False)

    def _write(self, text: str, shown: bool) -> None:
        self._file.write(text)
        self._file.flush()
        self._shown, self._last = shown, self._clock()


def doing(events: list[Event], now: float, began: float, limit: float) -> str:
    """Return in words what a running session is doing, from its journal.

    Parameters
    ----------
    events : list of dict
        The journal so far.
    now, began : float
        Seconds since 1970: now, and when the session's process began.
    limit : float
        Seconds that the session was told it has.
    """
    opened = next(iter(of_kind(events, "open")), None)
    if opened is None:
        return f"starting, {show_duration(now - began)}"
    work = []
    if steps := of_kind(events, "step"):
        work.append(f"step {steps[-1]['step']} ({len(steps)} in this session)")
    if items := of_kind(events, "item"):
        work.append(f"{len(items)} items done in this session")
    ended = {event["key"] for event in events if event["e"] in ("item", "failed")}
    begun = [event["key"] for event in of_kind(events, "begin") if event["key"] not in ended]
    work += [f"{begun[-1]} in work"] if begun else []
    if closed := of_kind(events, "close"):
        return f"closed after {show_duration(closed[-1]['t'] - opened['t'])}: {', '.join(work) or 'no item or step'}"
    return f"{show_duration(now - opened['t'])} of {show_duration(limit)}: {', '.join(work) or 'no item or step yet'}"
