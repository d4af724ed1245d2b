"""How a training goes: its losses, and the numbers that say whether it learns, beside what chance or the goal is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbkit.neuro.plots.ink import BASELINE, SERIES, say_stand_in, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Panel = tuple[str, Mapping[str, str], Mapping[str, float]]  # y label; metric to its name; lines to their height


def plot_monitors(
    history: Sequence[Mapping[str, Any]], losses: Mapping[str, str], panels: Sequence[Panel], *, stand_in: str = ""
) -> Figure:
    """Draw a training's losses in one panel and each monitor in another, against optimizer steps.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of the metrics.
    losses : mapping of str to str
        Metric to the name it is shown by.
    panels : sequence of (label, metrics, lines)
        Of each further panel: its y label with unit, its metrics by name, and heights to draw as dashed lines by name.
    stand_in : str
        What the data stand in for; said in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    count = 1 + len(panels)
    figure, axes = plt.subplots(1, count, figsize=(1.2 + 3.3 * count, 3.5), layout="constrained", squeeze=False)
    for place, (label, metrics, lines) in zip(axes[0], [("Loss (1)", losses, {}), *panels], strict=True):
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
    say_stand_in(figure, stand_in)
    return figure
