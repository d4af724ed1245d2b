"""Runs of consecutive numbers, by which records that stand in two segments count once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def include(taken: list[tuple[int, int]], numbers: list[int]) -> None:
    """Merge numbers into sorted, disjoint ranges."""
    if not numbers:
        return
    ranges = sorted(taken + _ranges(sorted(numbers)))
    taken.clear()
    for first, last in ranges:
        if taken and first <= taken[-1][1] + 1:
            taken[-1] = (taken[-1][0], max(last, taken[-1][1]))
        else:
            taken.append((first, last))


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return [(numbers[0], numbers[-1])]
    return [(run[0], run[-1]) for run in split_where(numbers, lambda one, other: one + 1 != other)]


def split_where(items: Iterable[T], ends: Callable[[T, T], bool]) -> list[list[T]]:
    """Return items in lists that end where `ends` is true of two neighbours."""
    runs: list[list[T]] = []
    for item in items:
        if not runs or ends(runs[-1][-1], item):
            runs.append([])
        runs[-1].append(item)
    return runs
