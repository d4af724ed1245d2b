"""A log that grows: what is new of it is shown as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 10.0  # seconds between two looks


def follow_log(
    read: Callable[[], str],
    goes_on: Callable[[], bool],
    say: Callable[[str], object] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a log, and what is added to it for as long as its run goes on.

    Parameters
    ----------
    read : callable
        Returns the whole log as it is now.
    goes_on : callable
        Whether more may come.
    say : callable
        Gets each new line.
    sleep : callable
    """
    shown: list[str] = []
    while True:
        more = goes_on()  # asked first: what is written before the end is still read
        lines = read().splitlines()
        # the last line may be half-written while the run goes on
        whole = lines[:-1] if more and lines else lines
        new = whole[len(shown) :] if whole[: len(shown)] == shown else whole
        for line in new:
            say(line)
        shown = whole
        if not more:
            return
        sleep(PAUSE)
