"""Figures of a stimulus: predictions over time, features as images, and clusters of segments.

Time is in seconds from the start of the stimulus. Missing modalities are labelled as such, not drawn as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import SERIES, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_series(
    lines: Mapping[str, np.ndarray], step_s: float, unit: str, *, first_s: float = 0.0, stand_in: str = ""
) -> Figure:
    """Draw time series in one panel.

    Parameters
    ----------
    lines : mapping of str to ndarray of shape (time,)
    step_s, first_s : float
        Time between samples, and time of the first sample, in s.
    unit : str
        Label of the y axis, with unit.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    for (name, values), colour in zip(lines.items(), SERIES * len(lines), strict=False):
        axes.plot(first_s + step_s * np.arange(len(values)), values, color=colour, linewidth=1.3, label=name)
    axes.set(xlabel="Time from the stimulus's start (s)", ylabel=unit)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9, ncols=min(4, len(lines)), loc="lower left", bbox_to_anchor=(0, 1))
    tidy(axes)
    title_stand_in(figure, stand_in)
    return figure


def plot_features(
    features: Mapping[str, np.ndarray], sfreq: float, present: Sequence[bool], *, shown: int = 64, stand_in: str = ""
) -> Figure:
    """Draw each modality's features as an image, with each feature z-scored over time.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (steps, dim)
    sfreq : float
        Steps per second, in Hz.
    present : sequence of bool
        Whether each modality is present in the stimulus.
    shown : int
        Number of features to draw for each modality: those that vary most.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(features), 1, figsize=(10, 1 + 1.7 * len(features)), layout="constrained",
                                  sharex=True, squeeze=False)  # fmt: skip
    image = None
    for axes, (name, values), there in zip(panels[:, 0], features.items(), present, strict=True):
        values = np.asarray(values, float)
        extent = (0, len(values) / sfreq, 0, min(shown, values.shape[1]))
        axes.set_ylabel("Feature")
        axes.set_title(f"{name} ({values.shape[1]} features)", fontsize=10, loc="left")
        if not there:
            axes.set_facecolor("#EEEEEE")
            axes.text(0.5, 0.5, "absent", transform=axes.transAxes, ha="center", va="center")
            axes.set(xlim=extent[:2], ylim=extent[2:])
            continue
        spread = values.std(axis=0)
        most = np.sort(spread.argsort()[::-1][:shown])
        z = (values[:, most] - values[:, most].mean(axis=0)) / np.where(spread[most] > 0, spread[most], 1.0)
        image = axes.imshow(z.T, aspect="auto", extent=extent, cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
    panels[-1, 0].set_xlabel("Time from the stimulus's start (s)")
    if image is not None:
        figure.colorbar(image, ax=panels[:, 0], label="Feature (z over time)", shrink=0.8)
    title_stand_in(figure, stand_in)
    return figure


def plot_stretches(descriptors: np.ndarray, chosen: np.ndarray, cluster: np.ndarray) -> Figure:
    """Draw segments on their first two principal components, coloured by cluster, with rings around chosen ones.

    Parameters
    ----------
    descriptors : ndarray of shape (segments, dim)
    chosen : int array of shape (chosen,)
        Indices of the chosen segments.
    cluster : int array of shape (segments,)
        Cluster of each segment.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    centred = descriptors - descriptors.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    places, share = left[:, :2] * size[:2], size[:2] ** 2 / np.maximum((size**2).sum(), 1e-12)
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    colours = [SERIES[number % len(SERIES)] for number in cluster]
    axes.scatter(*places.T, c=colours, s=22, alpha=0.8, label="segment, coloured by cluster")
    axes.scatter(*places[chosen].T, facecolors="none", edgecolors="black", s=90, label="chosen for the teacher model")
    axes.set(
        xlabel=f"First component ({share[0]:.0%} of the variance)", ylabel=f"Second component ({share[1]:.0%})",
        title=f"{len(chosen)} of {len(descriptors)} segments of 30 s",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.06), ncols=2)
    tidy(axes)
    return figure
