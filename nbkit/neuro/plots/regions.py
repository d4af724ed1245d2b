"""Figures of a brain-encoding model by region: scores, modalities used, and haemodynamic delay.

Scores are drawn with intervals beside those of their baselines, and the loss without a modality beside no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SERIES, TRUTH, tidy, title_stand_in

_MARKS = ("o", "s", "^", "D", "v", "P", "X")

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_r_by_region(
    scores: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    ceiling: Mapping[str, float] | None = None,
    over: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw the mean correlation in each region for several models, with intervals over people.

    Parameters
    ----------
    scores : mapping of str to mapping of str to (mean, low, high)
        Correlation r by model and region; the ends of the interval may be NaN.
    ceiling : mapping of str to float, optional
        Highest r that is possible, by region.
    over : str
        What the intervals are over, such as "27 people"; empty without intervals.
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    regions = list(next(iter(scores.values())))
    figure, axes = plt.subplots(figsize=(max(6.5, 2.5 + 0.9 * len(regions)), 4.2), layout="constrained")
    place, apart = np.arange(len(regions)), 0.8 / len(scores)
    for number, (name, values) in enumerate(scores.items()):
        at = place + (number - (len(scores) - 1) / 2) * apart
        mean, low, high = (np.array([values[region][k] for region in regions]) for k in range(3))
        error = np.nan_to_num(np.stack([mean - low, high - mean]))
        mark, colour = _MARKS[number % len(_MARKS)], SERIES[number % len(SERIES)]
        axes.errorbar(at, mean, error, fmt=mark, color=colour, markersize=5, elinewidth=1.1, label=name)
    for number, region in enumerate(regions if ceiling is not None else ()):
        label = "ceiling" if number == 0 else None
        axes.hlines(
            ceiling[region], number - 0.45, number + 0.45, color=TRUTH, linestyle=":", linewidth=1.3, label=label
        )
    axes.axhline(0, color=BASELINE, linestyle="--", linewidth=0.9, label="no relation")
    axes.set_xticks(place, regions, rotation=25 if len(regions) > 4 else 0)
    unit = f"Held-out r (1), 95 % over {over}" if over else "Held-out r (1)"
    axes.set(xlabel="Region", ylabel=unit)
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    title_stand_in(figure, stand_in)
    return figure


def plot_values_by_region(
    values: Mapping[str, np.ndarray], units: Mapping[str, str], regions: Sequence[str], *, title: str = "",
    stand_in: str = "",
) -> Figure:  # fmt: skip
    """Draw one value for each region, one panel for each name, for regions without a known place on the cortex.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (regions,)
    units : mapping of str to str
        Label of each panel's axis.
    regions : sequence of str
    title : str
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(values), figsize=(0.8 + 3.8 * len(values), 3.6), layout="constrained", squeeze=False
    )
    place = np.arange(len(regions))
    for axes, (name, own) in zip(panels[0], values.items(), strict=True):
        axes.vlines(place, 0, own, color=FIRST, linewidth=1.5)
        axes.plot(place, own, "o", color=FIRST, markersize=6)
        axes.axhline(0, color=BASELINE, linestyle="--", linewidth=0.9)
        axes.set_xticks(place, regions, rotation=25 if len(regions) > 4 else 0)
        axes.set(xlabel="Region (its place on the cortex is not in the data)", ylabel=units[name], title=name)
        tidy(axes)
    if stand_in not in ("", "real"):
        title_stand_in(figure, stand_in)
    elif title:
        figure.suptitle(title, fontsize=11)
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
    """Draw the r that each region loses without a modality, and the modalities' gates over a run.

    Parameters
    ----------
    reliance : ndarray of shape (modalities, outputs)
        r with all modalities minus r without one; NaN where it was not measured.
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
        own = [reliance[m][region == number] for number in range(len(regions))]
        losses = [float(one[np.isfinite(one)].mean()) if np.isfinite(one).any() else np.nan for one in own]
        left.bar(
            place + (m - (len(modalities) - 1) / 2) * width,
            losses,
            width * 0.92,
            color=SERIES[m % len(SERIES)],
            label=name,
        )
        right.plot(np.arange(len(gates)) * step_s, gates[:, m], color=SERIES[m % len(SERIES)], linewidth=1.3)
    left.axhline(0, color=BASELINE, linestyle="--", linewidth=1, label="no loss")
    right.axhline(1 / len(modalities), color=BASELINE, linestyle="--", linewidth=1, label="equal gates")
    for axes in (left, right):
        tidy(axes)
    left.set_xticks(place, regions, rotation=25 if len(regions) > 4 else 0)
    left.set(xlabel="Region", ylabel="Loss of r without the modality (1)", title="Ablation")
    right.set(xlabel="Time in the stimulus (s)", ylabel="Gate (1)", title="Gates over one run", ylim=(0, 1))
    left.set_ylim(top=left.get_ylim()[1] * 1.25)
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
