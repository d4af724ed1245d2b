"""The metrics that a training logged, each as one line of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

POINTS = 400  # of one line; more cannot be seen


@dataclass(frozen=True)
class Metric:
    """Values of one metric over steps.

    Attributes
    ----------
    name : str
    points : tuple of (int, float)
        Step and value, in the order of logging.
    """

    name: str
    points: tuple[tuple[int, float], ...]

    @property
    def text(self) -> str:
        """First, last, lowest and highest value in one line."""
        (begin, first), (end, last) = self.points[0], self.points[-1]
        values = [value for _, value in self.points]
        return (
            f"from {first:.4g} at step {begin} to {last:.4g} at step {end}, "
            f"between {min(values):.4g} and {max(values):.4g}"
        )


def metrics_of(history: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Return the metrics with at least two finite values, in the order in which they were first logged.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows, each with ``step``.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for name, value in row.items():
            finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if name != "step" and finite:
                found.setdefault(str(name), []).append((row["step"], float(value)))
    return [Metric(name, tuple(_thinned(points))) for name, points in found.items() if len(points) > 1]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return fewer points: the lowest and highest of each stretch, so that no spike is lost, and both ends."""
    if len(points) <= POINTS:
        return points
    size = math.ceil(2 * len(points) / POINTS)
    kept = {points[0]: None}
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept |= dict.fromkeys(sorted(ends))
    return list(kept | {points[-1]: None})
