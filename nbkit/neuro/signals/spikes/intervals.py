"""Intervals of observed time: what lies outside them is not known, and is never taken for silence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_CLOCK = 1e-6  # s; times of one instant that differ by less are equal


def joined(intervals: Iterable[Iterable[float]]) -> np.ndarray:
    """Return intervals sorted, with those that touch or overlap joined.

    Parameters
    ----------
    intervals : iterable of (start, stop)
        In s; those that end before they start are left out.

    Returns
    -------
    intervals : ndarray of shape (intervals, 2)

    Examples
    --------
    >>> joined([(5, 7), (0, 2), (2, 3)]).tolist()
    [[0.0, 3.0], [5.0, 7.0]]
    """
    rows = np.asarray([tuple(pair) for pair in intervals], float).reshape(-1, 2)
    out: list[list[float]] = []
    for start, stop in rows[np.argsort(rows[:, 0], kind="stable")]:
        if stop <= start:
            continue
        if out and start <= out[-1][1] + _CLOCK:
            out[-1][1] = max(out[-1][1], float(stop))
        else:
            out.append([float(start), float(stop)])
    return np.array(out).reshape(-1, 2)


def without(intervals: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return intervals without the time of others.

    Examples
    --------
    >>> without(np.array([[0.0, 10.0]]), np.array([[2.0, 3.0], [9.0, 12.0]])).tolist()
    [[0.0, 2.0], [3.0, 9.0]]
    """
    out = [tuple(pair) for pair in joined(intervals)]
    for start, stop in joined(taken):
        parts = [((begin, min(end, start)), (max(begin, stop), end)) for begin, end in out]
        out = [(begin, end) for pair in parts for begin, end in pair if end > begin]
    return joined(out)


def shared(intervals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the time that is in both sets of intervals."""
    everything = np.array([[-np.inf, np.inf]])
    return without(intervals, without(everything, others)) if len(intervals) else joined(intervals)


def inside(times: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Return whether each time, in s, is in one of the joined intervals; bool array of shape (times,)."""
    place = np.searchsorted(intervals[:, 0] - _CLOCK, times, side="right") - 1
    if len(intervals) == 0:
        return np.zeros(len(times), bool)
    return (place >= 0) & (times <= intervals[np.maximum(place, 0), 1] + _CLOCK)


def whole_bins(edges: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Return which bins lie wholly in one of the joined intervals.

    Parameters
    ----------
    edges : ndarray of shape (bins + 1,)
        In s.
    intervals : ndarray of shape (intervals, 2)

    Returns
    -------
    observed : bool ndarray of shape (bins,)
    """
    if len(intervals) == 0:
        return np.zeros(len(edges) - 1, bool)
    place = np.searchsorted(intervals[:, 0], edges[:-1] + _CLOCK, side="right") - 1
    return (place >= 0) & (edges[1:] <= intervals[np.maximum(place, 0), 1] + _CLOCK)
