"""Series of a stimulus: predictions over time, features as images, stretches by likeness.

Time is in seconds from the stimulus's start; what is absent is said, not drawn as zero.
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
    """Draw some series over time.

    Parameters
    ----------
    lines : mapping of str to ndarray of shape (time,)
    step_s, first_s : float
        Seconds from sample to sample, and of the first one.
    unit : str
    stand_in : str
        What the data stand in for.
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
    """Draw each modality's features as an image, z-scored feature by feature.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (steps, dim)
    sfreq : float
        Steps a second, in Hz.
    present : sequence of bool
        Of each modality.
    shown : int
        Features drawn of each: those that move most.
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
    """Draw stretches on their first two principal components, clusters in colour and the chosen ones ringed.

    Parameters
    ----------
    descriptors : ndarray of shape (stretches, dim)
    chosen : int array of shape (chosen,)
    cluster : int array of shape (stretches,)
    """
    import matplotlib.pyplot as plt

    centred = descriptors - descriptors.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    places, share = left[:, :2] * size[:2], size[:2] ** 2 / np.maximum((size**2).sum(), 1e-12)
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    colours = [SERIES[number % len(SERIES)] for number in cluster]
    axes.scatter(*places.T, c=colours, s=22, alpha=0.8, label="stretch, coloured by cluster")
    axes.scatter(*places[chosen].T, facecolors="none", edgecolors="black", s=90, label="chosen for the teacher")
    axes.set(
        xlabel=f"First component ({share[0]:.0%} of the variance)", ylabel=f"Second component ({share[1]:.0%})",
        title=f"{len(chosen)} of {len(descriptors)} stretches of 30 s",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.06), ncols=2)
    tidy(axes)
    return figure
