"""Figures of a brain-encoding model by region: scores, modalities used, and haemodynamic delay.

Scores are drawn beside those of their baselines, and shares of modalities beside the line of equal shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SERIES, TRUTH, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_r_by_region(
    scores: Mapping[str, Mapping[str, float]], *, ceiling: float | None = None, stand_in: str = ""
) -> Figure:
    """Draw the mean correlation in each region for a model and its baselines.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        Correlation r by region, for the model first and then for its baselines. NaN is left out.
    ceiling : float, optional
        Noise ceiling: the highest r that is possible.
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    regions = list(next(iter(scores.values())))
    figure, axes = plt.subplots(figsize=(max(5.5, 2 + 0.9 * len(regions)), 3.8), layout="constrained")
    width, place = 0.8 / len(scores), np.arange(len(regions))
    colours = [FIRST, BASELINE, SERIES[5], SERIES[4], SERIES[3]]
    for number, (name, values) in enumerate(scores.items()):
        at = place + (number - (len(scores) - 1) / 2) * width
        axes.bar(at, [values[region] for region in regions], width * 0.92, color=colours[number % 5], label=name)
    if ceiling is not None:
        axes.axhline(ceiling, color=TRUTH, linestyle=":", linewidth=1.2, label=f"noise ceiling ({ceiling:.2f})")
    axes.axhline(0, color=TRUTH, linewidth=0.8)
    axes.set_xticks(place, regions, rotation=25 if len(regions) > 4 else 0)
    axes.set(xlabel="Region", ylabel="Mean Pearson r over time (1)")
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    title_stand_in(figure, stand_in)
    return figure


def plot_reliance(
    reliance: np.ndarray,
    region: np.ndarray,
    regions: Sequence[str],
    modalities: Sequence[str],
    gates: np.ndarray,
    step_s: float,
    *,
    stand_in: str = "",
) -> Figure:
    """Draw each modality's share in the prediction of each region, and the modalities' gates over a run.

    Parameters
    ----------
    reliance : ndarray of shape (modalities, outputs)
        Shares, which sum to 1 over modalities.
    region : int array of shape (outputs,)
        Index of each output's region; negative for none.
    regions, modalities : sequence of str
    gates : ndarray of shape (steps, modalities)
        Gates of one run.
    step_s : float
        Length of a step, in s.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.7), layout="constrained")
    place, width = np.arange(len(regions)), 0.8 / len(modalities)
    for m, name in enumerate(modalities):
        shares = [reliance[m][region == number].mean() for number in range(len(regions))]
        left.bar(place + (m - (len(modalities) - 1) / 2) * width, shares, width * 0.92, color=SERIES[m], label=name)
        right.plot(np.arange(len(gates)) * step_s, gates[:, m], color=SERIES[m], linewidth=1.3)
    for axes in (left, right):
        axes.axhline(1 / len(modalities), color=BASELINE, linestyle="--", linewidth=1, label="equal shares")
        tidy(axes)
    left.set_xticks(place, regions, rotation=25 if len(regions) > 4 else 0)
    left.set(xlabel="Region", ylabel="Share of the prediction's changes (1)", title="Share of each gate")
    right.set(xlabel="Time in the stimulus (s)", ylabel="Gate (1)", title="Gates over one run", ylim=(0, 1))
    left.set_ylim(0, left.get_ylim()[1] * 1.25)
    left.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    title_stand_in(figure, stand_in)
    return figure


def plot_response(
    kernels: np.ndarray,
    first: np.ndarray,
    step_s: float,
    *,
    planted: tuple[np.ndarray, np.ndarray] | None = None,
    change: np.ndarray | None = None,
    stand_in: str = "",
) -> Figure:
    """Draw the learned haemodynamic response beside the initial one and, if known, the planted one.

    Parameters
    ----------
    kernels : ndarray of shape (features, lags)
        Learned responses, with lag 0 first.
    first : ndarray of shape (lags,)
        Initial response.
    step_s : float
        Length of a lag, in s.
    planted : (times in s, response), optional
        True response of stand-in data.
    change : ndarray of shape (lags,), optional
        Change of the whole model's prediction after a change of the stimulus, scaled to a maximum of 1.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    panels = 1 + (change is not None)
    figure, axes = plt.subplots(1, panels, figsize=(0.8 + 4.9 * panels, 3.6), layout="constrained", squeeze=False)
    lags, middle, spread = np.arange(kernels.shape[1]) * step_s, kernels.mean(0), kernels.std(0)
    size = max(middle.max(), 1e-12)
    left = axes[0, 0]
    left.fill_between(lags, (middle - spread) / size, (middle + spread) / size, color=FIRST, alpha=0.18, linewidth=0)
    left.plot(lags, middle / size, color=FIRST, marker="o", markersize=4, label="learned (mean, SD over features)")
    left.plot(lags, first / first.max(), color=BASELINE, linestyle="--", label="before training (SPM)")
    left.set(xlabel="Lag (s)", ylabel="Response (1 at its peak)", title="Haemodynamic layer")
    if change is not None:
        right = axes[0, 1]
        right.plot(np.arange(len(change)) * step_s, change, color=FIRST, marker="o", markersize=4, label="whole model")
        right.set(xlabel="Time after the stimulus changed (s)", ylabel="Change of the prediction (1 at its peak)")
        right.set_title("Response to a changed step")
    for place in axes[0]:
        if planted is not None:
            times, response = planted
            place.plot(times, response / response.max(), color=TRUTH, linewidth=1.2, label="planted")
        place.axhline(0, color=TRUTH, linewidth=0.6)
        tidy(place)
        place.legend(frameon=False, fontsize=8, loc="upper right")
        place.set_ylim(top=1.35)
    title_stand_in(figure, stand_in)
    return figure
