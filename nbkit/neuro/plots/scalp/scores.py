"""Figures of where on the head a score comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, tidy, title_stand_in, without_weights
from nbkit.neuro.plots.scalp.head import FEWEST, draw_head, placed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = {"balanced_accuracy": "Balanced accuracy", "r2": "R²"}
_BEST = 10  # channels in the panel of intervals


def plot_scalp(found: Any, control: Any = None, *, stand_in: str = "") -> Figure:
    """Draw the score of each channel alone: a head for all bands and one for each band, with one scale.

    White dots are channels above what the best of all reaches by chance in 5 % of draws. The last panel has the best
    channels with their intervals over people.

    Parameters
    ----------
    found : ScalpScores
    control : ScalpScores, optional
        The same with shuffled targets, drawn as a head of its own.
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    heads = [(name, found.score[number], found.reached) for number, name in enumerate(found.bands)]
    if control is not None:
        heads.append(("all, targets shuffled", control.score[0], control.reached))
    if len(placed(found.ch_names)) < FEWEST:
        return without_weights(_without_places(found, stand_in))
    columns = (len(heads) + 1) // 2
    figure = plt.figure(figsize=(2.6 * columns + 4.2, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.6 * columns, 4.2))
    panels = left.subplots(2, columns, squeeze=False)
    most = float(max(found.score.max(), found.reached))
    low = found.trivial
    for axes in panels.flat[len(heads) :]:
        axes.axis("off")
    for axes, (name, values, reached) in zip(panels.flat, heads, strict=False):
        image = draw_head(axes, values, found.ch_names, vlim=(low, most), cmap="viridis", marked=values > reached)
        axes.set_title(f"{name}\n{values.min():.2f} to {values.max():.2f}", fontsize=10)
    word = SCORES.get(found.score_name, found.score_name)
    label = f"{word} of one channel (darkest: {'chance' if low else 'the mean'} {low:.2g})"
    left.colorbar(image, ax=panels.ravel().tolist(), location="bottom", shrink=0.6, aspect=40, label=label)
    _best(right.subplots(), found)
    title_stand_in(figure, stand_in)
    return without_weights(figure)


def _best(axes: Axes, found: Any) -> None:
    """Draw the best channels, with all bands together, with their intervals over people."""
    order = np.argsort(-found.score[0], kind="stable")[:_BEST]
    _rows(axes, found, order)
    axes.set_title("Best channels, all bands", fontsize=10)


def _rows(axes: Axes, found: Any, order: np.ndarray) -> None:
    places = np.arange(len(order))
    value, low, high = (part[0][order] for part in (found.score, found.low, found.high))
    axes.hlines(places, low, high, color=FIRST, linewidth=2.0, alpha=0.6)
    axes.plot(value, places, "D", color=FIRST, markersize=6)
    axes.axvline(found.trivial, color=BASELINE, linestyle="--", label=f"{'chance' if found.trivial else 'mean'}")
    words = f"reached by the best in 5 % of chance, {found.reached:.2f}"
    axes.axvline(found.reached, color=SECOND, linewidth=1.2, label=words)
    axes.set_yticks(places, [found.ch_names[number] for number in order])
    axes.invert_yaxis()
    unit = f"bars: 95 % interval over {found.people} people or groups"
    axes.set_xlabel(f"{SCORES.get(found.score_name, found.score_name)}\n({unit})", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    tidy(axes)


def _without_places(found: Any, stand_in: str) -> Figure:
    """Draw bars instead of heads, where the places of the channels are not known from their names."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 1.8 + 0.3 * len(found.ch_names)), layout="constrained")
    _rows(axes, found, np.argsort(-found.score[0], kind="stable"))
    axes.set_title("Each channel alone (no head: the names are not of the 10-05 system)", fontsize=10)
    title_stand_in(figure, stand_in)
    return figure
