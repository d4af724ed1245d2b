"""Figures of rollouts beside the true signal, band by band.

Scores in the titles are over all channels of the window, each beside its trivial baseline; one channel is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import FIRST, SECOND, TRUTH, brief, tidy
from nbkit.neuro.plots.bands import edges_title, stage_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_rollout(
    rollout: Any,
    names: Sequence[str],
    sfreq: float,
    *,
    truth: Any = None,
    conditioned: Any = None,
    channel: int = 0,
    ch_name: str = "",
    bands: Sequence[tuple[float, float]] | None = None,
    unit: str = "uV",
    title: str = "",
) -> Figure:
    """Draw every stage of a rollout against the true window.

    Parameters
    ----------
    rollout : array of shape (bands, channels, time)
        Rollout that starts from zeros, see `autoregressive_inference`.
    names : sequence of str
        Name of each band.
    sfreq : float
        Sampling frequency, in Hz.
    truth : array of shape (bands, channels, time), optional
        True cumulative bands; without them there are no scores.
    conditioned : array of shape (bands, channels, time), optional
        Rollout that starts from the true first band.
    channel : int
        Index of the channel to draw.
    ch_name : str
        Name of the channel.
    bands : sequence of (l_freq, h_freq), optional
        Band edges in Hz, for the titles.
    unit : str
        Unit of the signals.
    title : str
        Text before the scores.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    rollout = np.asarray(rollout, dtype=float)
    truth = None if truth is None else np.asarray(truth, dtype=float)
    conditioned = None if conditioned is None else np.asarray(conditioned, dtype=float)
    for what, other in (("truth", truth), ("conditioned", conditioned)):
        if other is not None and other.shape != rollout.shape:
            raise ValueError(
                f"The array {what} has shape {other.shape} and the rollout {rollout.shape}; they must be the same."
            )
    unit, square = unit.replace("uV", "µV"), _square(unit)
    time = np.arange(rollout.shape[-1]) / sfreq
    figure, panels = plt.subplots(
        len(rollout), 1, figsize=(10, 1.6 + 1.6 * len(rollout)), sharex=True, layout="constrained", squeeze=False
    )
    for stage, axes in enumerate(panels[:, 0]):
        if truth is not None:
            axes.plot(time, truth[stage, channel], color=TRUTH, linewidth=1.0, label="truth")
        axes.plot(time, rollout[stage, channel], color=SECOND, linewidth=1.2, linestyle="--", label="from zeros")
        if conditioned is not None:
            line = conditioned[stage, channel]
            axes.plot(time, line, color=FIRST, linewidth=1.2, alpha=0.85, label="from the true first band")
        scores = []
        if truth is not None:
            scores.append(f"from zeros {brief(_mse(rollout[stage], truth[stage]))}")
            if conditioned is not None and stage > 0:
                scores.append(f"from first band {brief(_mse(conditioned[stage], truth[stage]))}")
                scores.append(f"(keeping the first band {brief(_mse(truth[0], truth[stage]))})")
            else:
                scores.append(f"(zero {brief(_mse(0 * truth[stage], truth[stage]))})")
        axes.set_title(f"{stage_title(names, stage)}   {edges_title(bands, stage)}", fontsize=10, loc="left")
        if scores:
            axes.set_title(f"MSE in {square}: {', '.join(scores[:-1])} {scores[-1]}", fontsize=9, loc="right")
        axes.set_ylabel(unit)
        axes.set_xlim(time[0], time[-1])
        tidy(axes)
    panels[-1, 0].set_xlabel("Time in the window (s)")
    figure.align_ylabels()
    lines = [" ".join(part for part in (title, f"Channel {ch_name or channel}") if part)]
    if truth is not None:
        lines.append(_summary("From zeros", rollout, truth, square, 0 * truth, "zero"))
        if conditioned is not None:
            kept = np.broadcast_to(truth[:1], truth.shape)
            lines.append(_summary("From the true first band", conditioned, truth, square, kept, "keeping it"))
    figure.suptitle("\n".join(lines), fontsize=10.5, x=0.01, ha="left")
    figure.legend(
        *panels[-1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=10
    )
    return figure


def _summary(what: str, rollout: Any, truth: Any, square: str, baseline: Any, baseline_is: str) -> str:
    return (
        f"{what}: cumulative MSE {brief(_mse(rollout, truth))} {square} "
        f"({baseline_is}: {brief(_mse(baseline, truth))}), "
        f"SNR {_snr(rollout[-1], truth[-1])} dB ({baseline_is}: {_snr(baseline[-1], truth[-1])})"
    )


def _mse(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((prediction - truth) ** 2))


def _snr(prediction: np.ndarray, truth: np.ndarray) -> str:
    noise = _mse(prediction, truth)
    return "inf" if noise == 0 else f"{10 * np.log10(np.mean(truth**2) / noise):.2f}"


def _square(unit: str) -> str:
    return "µV²" if unit == "uV" else f"({unit})²"
