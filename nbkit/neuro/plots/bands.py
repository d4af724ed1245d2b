"""Figure of the cumulative bands of one channel.

Each panel shows one stage in uV against seconds, drawn over the signal of all bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import TRUTH, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREEK = {"delta": "δ", "theta": "θ", "alpha": "α", "beta": "β", "gamma": "γ"}


def stage_title(names: Sequence[str], stage: int) -> str:
    """Return a stage's title: the sum of its bands.

    Examples
    --------
    >>> stage_title(["delta", "theta"], 1)
    'δ + θ'
    """
    return " + ".join(_GREEK.get(name, name) for name in names[: stage + 1])


def edges_title(bands: Sequence[tuple[float, float]] | None, stage: int) -> str:
    """Return the frequency range of a stage as text, or "" if the bands are not known."""
    return "" if bands is None else f"{bands[0][0]:g} to {bands[stage][1]:g} Hz"


def plot_bands(
    levels: np.ndarray,
    sfreq: float,
    names: Sequence[str],
    *,
    bands: Sequence[tuple[float, float]] | None = None,
    signal: np.ndarray | None = None,
    channel: int = 0,
    ch_name: str = "",
    start_s: float = 0.0,
) -> Figure:
    """Draw every cumulative band of one channel.

    Parameters
    ----------
    levels : array of shape (bands, channels, time)
        In uV.
    sfreq : float
        Sampling frequency, in Hz.
    names : sequence of str
        Name of each band.
    bands : sequence of (l_freq, h_freq), optional
        Band edges in Hz, for the titles.
    signal : array of shape (channels, time), optional
        The unfiltered signal, drawn in the background instead of the last level.
    channel : int
        Index of the channel to draw.
    ch_name : str
        Name of the channel.
    start_s : float
        Start of the window in its recording, in s.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    levels = np.asarray(levels, dtype=float)
    behind = levels[-1, channel] if signal is None else np.asarray(signal, dtype=float)[channel]
    time = start_s + np.arange(levels.shape[-1]) / sfreq
    figure, panels = plt.subplots(
        len(levels),
        1,
        figsize=(10, 1 + 1.35 * len(levels)),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for stage, axes in enumerate(panels[:, 0]):
        axes.plot(time, behind, color="#B8B8B8", linewidth=0.9, label="all bands" if signal is None else "signal")
        axes.plot(time, levels[stage, channel], color=TRUTH, linewidth=1.2, label="sum so far")
        axes.set_title(
            f"Stage {stage + 1}: {stage_title(names, stage)}   {edges_title(bands, stage)}", fontsize=10, loc="left"
        )
        axes.set_ylabel("µV")
        axes.set_xlim(time[0], time[-1])
        tidy(axes)
    lines = panels[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    panels[-1, 0].set_xlabel("Time in the recording (s)")
    figure.align_ylabels()
    figure.suptitle(f"Cumulative bands of {ch_name or f'channel {channel}'}", fontsize=12, x=0.01, ha="left")
    return figure
