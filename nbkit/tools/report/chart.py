"""Small line charts of the report's page, as points that its template draws in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 176  # units of the drawing; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 36

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One line over an axis, in units of the drawing.

    Attributes
    ----------
    name : str
        Unique on the page; the chart's ids begin with it.
    title, text : str
        Text alternative, short and long.
    x_label, y_label : str
    line : str
        Points of the line, as an SVG attribute.
    marks : tuple of (float, float, str)
        x, y and class of each mark: ``dot``, ``ring`` or ``cross``.
    goal : float or None
        y of a dashed line.
    x_ticks, y_ticks : tuple of (float, str)
        Position and number.
    """

    name: str
    title: str
    text: str
    x_label: str
    y_label: str
    line: str
    marks: tuple[tuple[float, float, str], ...]
    goal: float | None
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]

    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM


def draw(
    name: str,
    title: str,
    text: str,
    points: Sequence[Point],
    labels: tuple[str, str],
    *,
    goal: float | None = None,
    marks: Iterable[tuple[float, float, str]] = (),
    whole: bool = False,
) -> Chart:
    """Return the chart of a line.

    Parameters
    ----------
    name, title, text : str
    points : sequence of (float, float)
    labels : (str, str)
        Of the x and y axis.
    goal : float or None
        Value of a dashed line.
    marks : iterable of (float, float, str)
        x, y and class of marks.
    whole : bool
        True for counts: the y axis begins at 0 and has whole numbers only.
    """
    values = [value for _, value in points] + ([] if goal is None else [goal])
    logarithmic = not whole and min(values, default=0) > 0 and max(values) > 100 * min(values)
    xs = _Axis([step for step, _ in points], _LEFT, WIDTH - _RIGHT, integer=True)
    ys = _Axis([0, *values] if whole else values, HEIGHT - _BOTTOM, _TOP, integer=whole, logarithmic=logarithmic)
    return Chart(
        name, title, text, *labels,
        line=" ".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y in points),
        marks=tuple((round(xs(x), 1), round(ys(y), 1), kind) for x, y, kind in marks),
        goal=None if goal is None else round(ys(goal), 1),
        x_ticks=xs.ticks(5), y_ticks=ys.ticks(4),
    )  # fmt: skip


class _Axis:
    """Map values to positions between two ends."""

    def __init__(
        self, values: Sequence[float], begin: float, end: float, integer: bool = False, logarithmic: bool = False
    ) -> None:
        self._scale: Callable[[float], float] = math.log10 if logarithmic else float
        self._integer, self._logarithmic = integer, logarithmic
        self._ends = min(values, default=0.0), max(values, default=1.0)
        low, high = map(self._scale, self._ends)
        margin = 0.05 * (high - low) or 0.5
        self._low, self._high, self._begin = low - margin, high + margin, begin
        self._factor = (end - begin) / (self._high - self._low)

    def __call__(self, value: float) -> float:
        return self._begin + self._factor * (self._scale(value) - self._low)

    def ticks(self, count: int) -> tuple[tuple[float, str], ...]:
        """Return positions and numbers of at most so many ticks, more or less."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        locator = LogLocator(numticks=count) if self._logarithmic else MaxNLocator(count, integer=self._integer)
        found = [float(v) for v in locator.tick_values(*self._ends) if v > 0 or not self._logarithmic]
        kept = [value for value in found if self._low <= self._scale(value) <= self._high]
        return tuple((round(self(value), 1), f"{value:g}".replace("-", "\N{MINUS SIGN}")) for value in kept)
