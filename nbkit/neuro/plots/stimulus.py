"""Figures of a model's features of a stimulus and of the responses to predict, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import SERIES, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_features(features: Mapping[str, np.ndarray], step_s: float, *, title: str = "", shown: int = 60) -> Figure:
    """Draw each modality's standardised features over time, with one row per feature.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (steps, dim)
    step_s : float
        Length of a step, in s.
    title : str
    shown : int
        Number of features to draw for each modality.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(features), 1, figsize=(9, 1.7 * len(features) + 0.6), sharex=True,
                                  layout="constrained")  # fmt: skip
    for axes, (name, values) in zip(np.atleast_1d(panels), features.items(), strict=True):
        z = (values - values.mean(0)) / (values.std(0) + 1e-6)
        extent = (0, len(values) * step_s, min(shown, values.shape[1]), 0)
        image = axes.imshow(z[:, :shown].T, aspect="auto", cmap="RdBu_r", vmin=-2.5, vmax=2.5, extent=extent,
                            interpolation="nearest")  # fmt: skip
        axes.set_ylabel(f"{name}\nfeature")
    np.atleast_1d(panels)[-1].set_xlabel("Time (s)")
    figure.colorbar(image, ax=panels, label="Standard deviations", shrink=0.7)
    if title:
        figure.suptitle(f"{title}: the first {shown} features of each modality", fontsize=10)
    return figure


def plot_series(
    values: np.ndarray, step_s: float, region: np.ndarray, regions: Sequence[str], *, seconds: float = 180.0
) -> Figure:
    """Draw one output of each region over time, below each other.

    Parameters
    ----------
    values : ndarray of shape (steps, outputs)
        In units of the standard deviation (z).
    step_s : float
        Length of a step, in s.
    region : int array of shape (outputs,)
        Index of each output's region.
    regions : sequence of str
    seconds : float
        Length of the part to draw, in s.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    steps = min(len(values), round(seconds / step_s))
    figure, axes = plt.subplots(figsize=(9, 1 + 0.75 * len(regions)), layout="constrained")
    apart = 5.0
    for number in range(len(regions)):
        own = np.flatnonzero(region == number)
        if len(own):
            line = values[:steps, own[len(own) // 2]]
            axes.plot(np.arange(steps) * step_s, line - apart * number, color=SERIES[number % 6], linewidth=1.2)
    axes.set_yticks([-apart * number for number in range(len(regions))], regions)
    axes.plot([0, 0], [1.5, 3.5], color="black", linewidth=2, clip_on=False)
    axes.text(steps * step_s * 0.008, 2.5, "2 z", va="center", fontsize=9)
    axes.set(xlabel="Time (s)", ylabel="One output of each region", xlim=(0, steps * step_s))
    tidy(axes)
    return figure
