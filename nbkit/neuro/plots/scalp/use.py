"""Figure of the channels that a trained network uses, beside what a linear model finds at each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, tidy, title_stand_in
from nbkit.neuro.plots.scalp.head import FEWEST, draw_head, placed
from nbkit.neuro.plots.scalp.scores import SCORES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST = 10  # channels in the panel of intervals


def plot_use(use: Any, alone: Any, *, stand_in: str = "") -> Figure:
    """Draw where a network's prediction comes from: its use of each channel, and what each channel holds alone.

    Parameters
    ----------
    use : ChannelUse
        Of the network.
    alone : ScalpScores
        Of linear models on the band powers of single channels, for the same test subjects.
    stand_in : str
        Description of stand-in data, written above the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    heads = len(placed(use.ch_names)) >= FEWEST
    figure = plt.figure(figsize=(12.5 if heads else 5.5, 4.6), layout="constrained")
    if heads:
        left, right = figure.subfigures(1, 2, width_ratios=(8.3, 4.2))
        _heads(left, use, alone)
        _rises(right.subplots(), use)
    else:
        _rises(figure.subplots(), use)
    title_stand_in(figure, stand_in)
    return figure


def _heads(figure: Any, use: Any, alone: Any) -> None:
    panels = figure.subplots(1, 3)
    most = max(float(use.rise.max()), use.reached, 1e-12)
    of = {"vlim": (0.0, most), "cmap": "viridis"}
    image = draw_head(panels[0], use.rise, use.ch_names, marked=use.rise > use.reached, **of)
    draw_head(panels[1], use.shuffled, use.ch_names, **of)
    what = "Channel" if use.together == 1 else f"Up to {use.together} channels within 3 cm"
    panels[0].set_title(f"Network\n{what} exchanged", fontsize=10)
    panels[1].set_title("Network\nThe same, targets shuffled", fontsize=10)
    words = f"Rise of the error ({use.unit}; darkest: 0 or less)"
    bar = figure.colorbar(image, ax=panels[:2].tolist(), location="bottom", shrink=0.7, aspect=40, label=words)
    _few_ticks(bar.ax)
    high = max(float(alone.score[0].max()), alone.reached)
    scale = {"vlim": (alone.trivial, high), "cmap": "viridis"}
    image = draw_head(panels[2], alone.score[0], alone.ch_names, marked=alone.score[0] > alone.reached, **scale)
    panels[2].set_title("No network: a linear model\non one channel's band powers", fontsize=10)
    word = f"{SCORES.get(alone.score_name, alone.score_name)} (darkest: {alone.trivial:.2g})"
    figure.colorbar(image, ax=panels[2], location="bottom", shrink=0.9, aspect=20, label=word)


def _rises(axes: Axes, use: Any) -> None:
    """Draw the most used channels with their intervals over people."""
    order = np.argsort(-use.rise, kind="stable")[:_BEST]
    rows = np.arange(len(order))
    axes.hlines(rows, use.low[order], use.high[order], color=FIRST, linewidth=2.0, alpha=0.6)
    axes.plot(use.rise[order], rows, "D", color=FIRST, markersize=6)
    axes.plot(use.shuffled[order], rows, "x", color=BASELINE, markersize=6, label="targets shuffled")
    axes.axvline(0.0, color=BASELINE, linestyle="--")
    axes.axvline(use.reached, color=SECOND, linewidth=1.2, label="reached by the largest in 5 % of chance")
    axes.set_yticks(rows, [use.ch_names[one] for one in order])
    axes.invert_yaxis()
    axes.set_title("Channels that the network uses most", fontsize=10)
    words = f"bars: 95 % interval over {use.people} people;\n{use.beside}"
    axes.set_xlabel(f"Rise of the error ({use.unit})\n({words})", fontsize=9)
    _few_ticks(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.24))
    tidy(axes)


def _few_ticks(axes: Axes) -> None:
    """Write few numbers along x, with a common power of ten where they are small."""
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
