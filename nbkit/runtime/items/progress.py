"""Progress over items: a bar in a notebook, a line a minute in a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from nbkit.runtime.budget import Budget
from nbkit.runtime.cells.lines import Lines, seconds_between_lines
from nbkit.runtime.words import counted, show_duration


def bar(items: Iterable[Any], total: int, done: int, budget: Budget, what: str) -> Iterator[Any]:
    """Yield items and show a bar with items done, rate, time to the wall and sessions left.

    Parameters
    ----------
    items : iterable
    total, done : int
        Items of the manifest or shard, and those done before this session.
    budget : Budget
    what : str
        Title of the bar.
    """
    every = seconds_between_lines()
    if every is not None:
        lines = Lines(every)
        for number, item in enumerate(items, 1):
            yield item
            if lines.due():
                print(
                    f"[nbkit] {what}: {done + number} of {counted(total, 'item')}{_rest(total, done, number, budget)}"
                )
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, initial=done, desc=what, unit="item", dynamic_ncols=True, mininterval=0.5) as shown:
        for number, item in enumerate(items, 1):
            yield item
            shown.update(1)
            if budget.limit is not None:
                shown.set_postfix_str(outlook(total - done - number, number, budget), refresh=False)


def _rest(total: int, done: int, number: int, budget: Budget) -> str:
    rate = f", {show_duration(budget.elapsed() / number)} each"
    return rate if budget.limit is None else f"{rate}, {outlook(total - done - number, number, budget)}"


def outlook(left: int, finished: int, budget: Budget) -> str:
    """Return text with the time to the wall and the sessions that are left at this session's rate."""
    words = f"time left {show_duration(max(budget.wall(), 0))}"
    sessions = sessions_left(left, finished, budget)
    return words if sessions is None else f"{words}, {sessions} more session{'s' if sessions != 1 else ''}"


def sessions_left(left: int, finished: int, budget: Budget) -> int | None:
    """Return how many more sessions of this length the work takes; None before anything was measured."""
    if not finished or budget.limit is None:
        return None
    seconds = left * budget.elapsed() / finished
    return max(0, math.ceil((seconds - max(budget.left(), 0.0)) / budget.limit))
