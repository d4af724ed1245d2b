"""Figures of training curves.

A validation curve is always drawn with its baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 3  # panels beside each other; more are too small to read in a notebook


def plot_curves(
    history: Sequence[Mapping[str, Any]],
    train: str = "train_loss",
    val: str = "val_mse",
    *,
    val_unit: str = "uV^2",
    val_is: str = "Mean squared error",
    val_title: str = "Validation, one step",
    train_unit: str = "in units of band power",
    baseline: float | None = None,
    baseline_is: str = "persistence",
    sessions: Sequence[int] = (),
    stand_in: str = "",
) -> Figure:
    """Draw the training loss and the validation error against steps.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of the metrics.
    train, val : str
        Names of the metrics.
    val_unit, train_unit : str
        Units, for the axes.
    val_is, val_title : str
        Description of the validation metric, and title of its panel.
    baseline : float, optional
        Score of the baseline, in ``val_unit``; by default ``<val>_<baseline_is>`` of the rows.
    baseline_is : str
        Name of the baseline.
    sessions : sequence of int
        Steps at which a new session began, drawn as thin lines.
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    steps, values = _series(history, train)
    left.plot(steps, values, color=FIRST, linewidth=0.7, alpha=0.35, label="each logged step")
    if len(values) >= 10:
        smooth = _running_mean(values, max(5, len(values) // 20))
        left.plot(steps, smooth, color=FIRST, linewidth=1.8, label="running mean")
    left.set(title="Training", xlabel="Step", ylabel=f"Loss ({train_unit})")

    steps, values = _series(history, val)
    right.plot(steps, values, color=SECOND, marker="o", markersize=4, label="model")
    if baseline is None:
        known = _series(history, f"{val}_{baseline_is}")[1]
        baseline = known[-1] if known else None
    if baseline is not None:
        label = f"{baseline_is} ({baseline:.4g} {_pretty(val_unit)})"
        right.axhline(baseline, color=BASELINE, linestyle="--", label=label)
    right.set(title=val_title, xlabel="Step", ylabel=f"{val_is} ({_pretty(val_unit)})")
    for axes in (left, right):
        for number, step in enumerate(sessions):
            axes.axvline(step, color="#BBBBBB", linewidth=0.9, linestyle=":", label="" if number else "new session")
        tidy(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    title_stand_in(figure, stand_in)
    return figure


def _series(history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    rows = [(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None]
    return [step for step, _ in rows], [value for _, value in rows]


def _running_mean(values: list[float], width: int) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - width) : end]
        means.append(sum(part) / len(part))
    return means


def _pretty(unit: str) -> str:
    return unit.replace("uV", "µV").replace("^2", "²")


Panel = tuple[str, Mapping[str, str], Mapping[str, float]]  # y label; names by metric; heights of lines by name


def plot_monitors(
    history: Sequence[Mapping[str, Any]], losses: Mapping[str, str], panels: Sequence[Panel], *, stand_in: str = ""
) -> Figure:
    """Draw a training's losses in one panel and other metrics in further panels, against optimizer steps.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of the metrics.
    losses : mapping of str to str
        Name in the legend, by metric.
    panels : sequence of (label, metrics, lines)
        For each further panel: y label with unit, names in the legend by metric, and heights of dashed lines by name.
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    count = 1 + len(panels)
    across = min(count, _ACROSS)
    down = -(-count // across)
    size = (1.2 + 3.3 * across, 0.3 + 3.2 * down)
    figure, axes = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for place in axes.flat[count:]:
        place.set_axis_off()
    for place, (label, metrics, lines) in zip(axes.flat, [("Loss (1)", losses, {}), *panels], strict=False):
        for colour, (metric, name) in zip(SERIES * 2, metrics.items(), strict=False):
            rows = [(row["step"], row[metric]) for row in history if row.get(metric) is not None]
            marker = "o" if len(rows) < 15 else None
            place.plot(
                *zip(*rows, strict=True), color=colour, label=name, marker=marker, markersize=3
            ) if rows else None
        for name, height in lines.items():
            place.axhline(height, color=BASELINE, linestyle="--", linewidth=1, label=f"{name} ({height:.3g})")
        place.set(xlabel="Step", ylabel=label)
        tidy(place)
        if place.get_legend_handles_labels()[0]:
            place.legend(frameon=False, fontsize=8)
    title_stand_in(figure, stand_in)
    return figure
