"""Which of a training's logged metrics are drawn together, and how.

Names tell: ``train_loss`` and ``val_loss`` are one measure; ``val_mse_persistence`` stands beside ``val_mse``. A
baseline of the results is drawn with the metric of its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from nbkit.tools.report.svg import FAINT, INK, SERIES, drawing, inline, plain_numbers

LINES = 6  # in one panel; more cannot be told apart
POINTS = 400  # of one line
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Line:
    """Hold one metric's values over steps."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass
class Panel:
    """Hold what is drawn together: lines, a baseline, and how many lines found no room."""

    title: str
    lines: list[Line]
    baseline: tuple[float, str] | None = None
    left_out: int = 0
    marks: Sequence[tuple[int, bool]] = field(default_factory=tuple)
    """Steps at which a session began, and whether the one before it was killed."""
    unit: str = ""

    def words(self) -> str:
        """Say in words what the panel shows."""
        parts = []
        for line in self.lines:
            first, last = line.values[0], line.values[-1]
            way = f"from {first:.4g} at step {line.steps[0]} to {last:.4g} at step {line.steps[-1]}"
            parts.append(f"{line.name} {way}, between {min(line.values):.4g} and {max(line.values):.4g}")
        if self.baseline:
            parts.append(f"baseline {self.baseline[0]:.4g}, {self.baseline[1]}")
        killed = sum(was_killed for _, was_killed in self.marks)
        if self.marks:
            parts.append(f"{len(self.marks)} sessions began on the way, {killed} of them after one that was not closed")
        return "; ".join(parts) + "."


def panels_of(
    history: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, tuple[float, str]] | None = None,
    marks: Sequence[tuple[int, bool]] = (),
    units: Mapping[str, str] | None = None,
) -> list[Panel]:
    """Return the panels of a training, in the order in which their metrics were first logged.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows, each with ``step``.
    baselines : mapping or None
        Name of a metric to its baseline and what that is.
    marks : sequence of (int, bool)
        Steps at which a session began, and whether the one before it was killed.
    units : mapping or None
        Name of a metric to its unit, where it is known.
    """
    lines = {line.name: line for line in _lines(history)}
    groups: dict[str, list[Line]] = {}
    for name, line in lines.items():
        root = min((n for n in lines if name == n or name.startswith(f"{n}_")), key=len)
        groups.setdefault(_measure(root), []).append(line)
    found = []
    for measure, members in groups.items():
        members.sort(key=lambda line: len(line.name.split("_")) > len(measure.split("_")) + 1)
        known = next((baselines[line.name] for line in members if baselines and line.name in baselines), None)
        if known and any(math.isclose(line.values[-1], known[0], rel_tol=0.02) for line in members[:LINES]):
            known = None  # it is logged as a line of its own
        alone = members[0].name if len(members) == 1 else measure
        unit = next((units[line.name] for line in members if units and line.name in units), "")
        found.append(Panel(alone, members[:LINES], known, max(0, len(members) - LINES), marks, unit))
    return found


def _measure(name: str) -> str:
    for stage in ("train_", "val_", "test_"):
        if name.startswith(stage):
            return name.removeprefix(stage)
    return name


def _lines(history: Sequence[Mapping[str, Any]]) -> list[Line]:
    points: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        for name, value in row.items():
            known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if name != "step" and known:
                points.setdefault(str(name), []).append((row["step"], float(value)))
    return [Line(name, *map(tuple, zip(*_thinned(one), strict=True))) for name, one in points.items() if len(one) > 1]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return few points of many: of each stretch its lowest and highest, so that no spike is lost, and the last."""
    if len(points) <= POINTS:
        return points
    size = math.ceil(2 * len(points) / POINTS)
    kept: list[tuple[int, float]] = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def draw(panel: Panel, name: str) -> ElementTree.Element:
    """Return a panel as an SVG element; `name` is unique on the page."""
    with drawing() as (figure, axes):
        for number, line in enumerate(panel.lines):
            few = {"marker": "o", "markersize": 2.6} if len(line.steps) <= 30 else {}
            axes.plot(line.steps, line.values, color=SERIES[number], linestyle=_DASHES[number], linewidth=1.5, **few)
        low, high = axes.get_xlim()
        if panel.baseline:
            axes.axhline(panel.baseline[0], color=INK, linestyle=(0, (4, 3)), linewidth=1.1)
        for step, killed in panel.marks:
            if low <= step <= high:
                axes.axvline(step, color=SERIES[1] if killed else FAINT, linewidth=0.8, linestyle=":", zorder=0)
        values = [value for line in panel.lines for value in line.values]
        values += [panel.baseline[0]] if panel.baseline else []
        if min(values) > 0 and max(values) > 100 * min(values):
            axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_xlabel("Step")
        axes.set_ylabel(panel.unit)
        plain_numbers(axes.yaxis)
        return inline(figure, name, panel.title, panel.words())


def dash_of(number: int) -> str:
    """Return a line's dashes as an SVG attribute has them; empty for a solid one."""
    style = _DASHES[number]
    return "" if isinstance(style, str) else " ".join(str(1.5 * part) for part in style[1])
