"""Figures of what a next-band model predicts beyond filters: by band, by subject and on the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import BASELINE, SERIES, tidy
from nbkit.neuro.plots.scalp.head import FEWEST, draw_head, placed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# of predictors, in the order of the table; blue is training in the figure of the curves, orange the model's validation
_COLOURS = (SERIES[1], SERIES[3], SERIES[2], SERIES[4], SERIES[5])
_EXCESS = "#4D4D4D"
_NOTHING = "Nothing to compare yet: the training is not complete,\nor there was none on surrogates."


def plot_skills(
    skills: Mapping[str, np.ndarray], bands: Sequence[str], excess: np.ndarray | None, whose: str = "subjects"
) -> Figure:
    """Draw the skill of each predictor by band, and the excess over the surrogate of every subject.

    Parameters
    ----------
    skills : mapping of str to array of shape (subjects, bands)
        Skill over persistence, by predictor; each keeps its colour. Empty before the training is complete.
    bands : sequence of str
        Names of the predicted bands.
    excess : array of shape (subjects, bands + 1), optional
        Excess by band, then over all bands; None if there was no training on surrogates.
    whose : str
        What is held out, "subjects" or "runs".

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=(3, 2), layout="constrained")
    if excess is None:
        right.text(0.5, 0.5, _NOTHING, ha="center", va="center")
        right.axis("off")
    if not skills:
        left.axis("off")
        return figure
    places, width = np.arange(len(bands)), 0.8 / len(skills)
    for number, (name, values) in enumerate(skills.items()):
        at = places + (number - (len(skills) - 1) / 2) * width
        left.bar(at, values.mean(axis=0), width, color=_COLOURS[number], label=name)
        if len(values) > 1:
            error = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
            left.errorbar(at, values.mean(axis=0), error, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
    left.axhline(0, color=BASELINE, linestyle="--", label="persistence")
    left.set_xticks(places, list(bands))
    left.set(xlabel="Predicted band, from those below it", ylabel="Skill over persistence (1)")
    left.set_title(f"Mean over held-out {whose}, 95 % interval")
    left.legend(frameon=False, fontsize=8)
    tidy(left)
    if excess is None:
        return figure
    spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(excess))
    for number in range(excess.shape[1]):
        right.plot(number + spread, excess[:, number], "o", color=_EXCESS, markersize=4, alpha=0.6)
        right.plot([number - 0.3, number + 0.3], [excess[:, number].mean()] * 2, color="black", linewidth=1.6)
    right.axhline(0, color=BASELINE, linestyle="--")
    right.set_xticks(range(excess.shape[1]), [*bands, "all"])
    right.set(ylabel="Excess over the surrogate (1)", title=f"One point for each of the {whose}; bar: mean")
    tidy(right)
    return figure


def plot_excess_maps(excess: np.ndarray | None, bands: Sequence[str], ch_names: Sequence[str]) -> Figure:
    """Draw where on the head the excess lies, one head a band with one scale; bars if the places are not known.

    Parameters
    ----------
    excess : array of shape (bands, channels), optional
        Excess over the surrogate; None if it is not known.
    bands : sequence of str
    ch_names : sequence of str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    if excess is None:
        figure, axes = plt.subplots(figsize=(6, 2.5))
        axes.text(0.5, 0.5, _NOTHING, ha="center", va="center")
        axes.axis("off")
        return figure
    most = float(np.abs(excess).max()) or 1.0
    heads = len(placed(ch_names)) >= FEWEST
    figure, panels = plt.subplots(1, len(bands), figsize=(2.9 * len(bands), 3.4), layout="constrained", squeeze=False)
    for band, axes in enumerate(panels[0]):
        if heads:
            draw_head(axes, excess[band], ch_names, vlim=(-most, most))
        else:
            axes.barh(list(ch_names), excess[band], color=_EXCESS)
            axes.set_xlim(-most, most)
            axes.set_xlabel("Excess (1)")
        axes.set_title(f"{bands[band]}\nfrom {excess[band].min():.2f} to {excess[band].max():.2f}", fontsize=10)
    if heads:
        shown = plt.cm.ScalarMappable(plt.Normalize(-most, most), "RdBu_r")
        figure.colorbar(shown, ax=panels[0].tolist(), label="Excess over the surrogate (1)", shrink=0.7)
    return figure
