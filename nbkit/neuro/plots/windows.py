"""Figure of one EEG window.

Channels are drawn below each other, in uV against seconds and with the same gain, which a scale bar shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import SERIES, TRUTH, tidy, without_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 20


def plot_window(
    signal: np.ndarray,
    sfreq: float,
    ch_names: Sequence[str],
    *,
    start_s: float = 0.0,
    picks: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Draw one window, with its channels below each other.

    Parameters
    ----------
    signal : array of shape (channels, time)
        In uV.
    sfreq : float
        Sampling frequency, in Hz.
    ch_names : sequence of str
    start_s : float
        Start of the window in its recording, in s.
    picks : sequence of str, optional
        Channels to draw; by default all, or about 20 evenly spaced ones if there are more.
    title : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    signal = np.asarray(signal, dtype=float)
    if signal.ndim != 2 or len(signal) != len(ch_names):
        raise ValueError(
            f"The signal has shape {signal.shape} for {len(ch_names)} names; it must be (channels, time), with one "
            "name per channel."
        )
    rows = _chosen(ch_names, picks)
    shown = signal[rows] - signal[rows].mean(axis=1, keepdims=True)
    gap = 4 * float(np.median(shown.std(axis=1))) or 1.0
    time = start_s + np.arange(signal.shape[1]) / sfreq
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.25 * len(rows)), layout="constrained")
    for place, trace in enumerate(shown):
        axes.plot(time, trace - place * gap, color=SERIES[0], linewidth=0.8)
    tidy(axes)
    axes.grid(False, axis="y")
    axes.set_yticks(-gap * np.arange(len(rows)), [ch_names[row] for row in rows], fontsize=8)
    axes.tick_params(axis="y", length=0)
    bar = _round_number(gap)
    edge = time[-1] + 0.015 * (time[-1] - time[0])
    bottom = -gap * (len(rows) - 1)
    axes.plot([edge, edge], [bottom, bottom + bar], color=TRUTH, linewidth=2, clip_on=False)
    axes.text(edge + 0.008 * (time[-1] - time[0]), bottom + bar / 2, f"{bar:g} µV", va="center", fontsize=9)
    axes.set_xlim(time[0], time[-1] + 0.08 * (time[-1] - time[0]))
    axes.margins(y=0.02)
    what = f"{len(rows)} of {len(ch_names)} channels" if len(rows) < len(ch_names) else f"{len(ch_names)} channels"
    axes.set(xlabel="Time in the recording (s)", ylabel="Channel", title=f"{title}: {what}" if title else what)
    return without_weights(figure)


def _chosen(ch_names: Sequence[str], picks: Sequence[str] | None) -> list[int]:
    names = list(ch_names)
    if picks is None:
        if len(names) <= _MANY:
            return list(range(len(names)))
        return sorted({int(i) for i in np.linspace(0, len(names) - 1, _MANY).round()})
    unknown = [name for name in picks if name not in names]
    if unknown:
        raise ValueError(f"No channel {', '.join(unknown)} is in this window; there are {', '.join(names)}.")
    return [names.index(name) for name in picks]


def _round_number(value: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above the value."""
    power = 10 ** np.floor(np.log10(value))
    return float(max(step for step in (1, 2, 5) if step * power <= value * 1.0001) * power)
