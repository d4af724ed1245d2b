"""Figure of the uses of Band-VAR, each beside its simple rivals, with the interval over subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import BASELINE, SERIES, tidy
from nbkit.neuro.plots.generated import ALONE, MADE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"tokens": MADE, "generated": MADE, "decoder alone": ALONE}


def plot_uses(
    areas: Mapping[tuple[str, str], np.ndarray], accuracies: Mapping[str, np.ndarray], chance: float
) -> Figure:
    """Draw how well bad windows are found, and how well new subjects are decoded with added windows.

    Parameters
    ----------
    areas : mapping of (artifact, score) to array of shape (subjects,)
        Areas under the ROC curve.
    accuracies : mapping of str to array of shape (subjects,)
        Balanced accuracies, by what was added.
    chance : float
        Chance level of the accuracies.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=(3, 2), layout="constrained")
    artifacts, scores = (list(dict.fromkeys(pair[part] for pair in areas)) for part in (0, 1))
    for number, score in enumerate(scores):
        places = np.arange(len(artifacts)) + (number - (len(scores) - 1) / 2) * 0.26
        colour = _COLOURS.get(score, (BASELINE, SERIES[4])[number % 2])
        _bars(left, places, [areas[kind, score] for kind in artifacts], 0.24, colour, score)
    left.axhline(0.5, color=BASELINE, linestyle="--", label="chance")
    left.set_xticks(range(len(artifacts)), artifacts)
    left.set(ylim=(0.3, 1.02), ylabel="Area under the ROC curve (1)", title="Planted artifacts, held-out windows")
    left.legend(frameon=False, fontsize=8, ncols=2)
    for number, (name, values) in enumerate(accuracies.items()):
        _bars(right, [number], [values], 0.7, _COLOURS.get(name, (BASELINE, SERIES[4])[number % 2]), name)
    right.axhline(chance, color=BASELINE, linestyle="--")
    right.set_xticks(range(len(accuracies)), list(accuracies), fontsize=8)
    right.set(ylabel="Balanced accuracy (1)", title="Decoding held-out subjects, by what was added")
    tidy(left)
    tidy(right)
    return figure


def _bars(axes: Axes, places: object, values: list[np.ndarray], width: float, colour: str, name: str) -> None:
    means = [float(np.mean(one)) for one in values]
    axes.bar(places, means, width, color=colour, label=name)
    spread = [1.96 * np.std(one, ddof=1) / len(one) ** 0.5 if len(one) > 1 else 0.0 for one in values]
    axes.errorbar(places, means, spread, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
