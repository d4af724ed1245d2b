"""Figures of what was read: of one recording, and of all recordings of a store."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, SERIES, TRUTH, tidy, without_weights
from nbkit.neuro.plots.scalp.head import FEWEST, draw_head, placed
from nbkit.neuro.signals.intake.amplitude import PLAUSIBLE_UV
from nbkit.neuro.signals.intake.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_intake(recording: Recording, title: str = "") -> Figure:
    """Draw the quality of a recording that was read by `read_recording`.

    Parameters
    ----------
    recording : Recording
        With its facts; a recording that was read by other rules has only the spectrum and the amplitudes.
    title : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    facts = recording.facts
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 4.2), width_ratios=(5, 4, 4), layout="constrained"
    )  # fmt: skip
    _spectrum(left, recording)
    if len(placed(recording.ch_names)) >= FEWEST:
        _head(middle, recording)
    else:
        _bars(middle, recording)
    right.axis("off")
    said = facts.lines() if facts is not None else [f"{len(recording.ch_names)} channels, {recording.seconds:.0f} s"]
    lines = [piece for line in said for piece in textwrap.wrap(line, 46, subsequent_indent="   ")]
    shown = lines if len(lines) <= 18 else [*lines[:17], f"and {len(lines) - 17} more lines on the card"]
    right.text(0.0, 1.0, "\n".join(shown), va="top", ha="left", fontsize=8.5, transform=right.transAxes)
    name = title or (facts.file if facts is not None else "")
    figure.suptitle(name if recording.data == "real" else f"{name} ({recording.data})")
    return without_weights(figure)


def plot_recordings(facts: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the amplitude and the number of channels of all recordings.

    Parameters
    ----------
    facts : sequence of mapping
        Facts of each recording, with ``intake`` (see `RecordingFacts`); HBN's recordings, which are read by rules of
        their own, have none and are only counted.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    read = [one["intake"] for one in facts if isinstance(one.get("intake"), Mapping)]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11, 6), sharex=True, layout="constrained")
    places, beside = np.arange(1, len(read) + 1), dict(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    if read:
        amplitudes = [np.array(list(one["amplitude_uv"].values()) or [np.nan]) for one in read]
        low, middle, high = (np.array([f(a) for a in amplitudes]) for f in (np.min, np.median, np.max))
        upper.vlines(places, low, high, color=SERIES[0], linewidth=1.5, alpha=0.5, label="lowest to highest channel")
        upper.plot(places, middle, "o", color=TRUTH, markersize=4, label="median of the channels")
        upper.legend(frameon=False, fontsize=8, ncols=2, **beside)
    for edge in PLAUSIBLE_UV:
        upper.axhline(edge, color=BASELINE, linestyle="--", linewidth=1)
    upper.set(yscale="log", ylabel="Amplitude, 1 to 40 Hz (µV)", title="Amplitude of each recording")
    below = np.zeros(len(read))
    for number, (name, field) in enumerate((("EEG, used", "ch_names"), ("left out", "left_out"), ("bad", "bads"))):
        counts = np.array([len(one[field]) for one in read], float)
        if field == "bads":  # a repaired one is used, and counted there
            counts -= [len(one["repaired"]) for one in read]
        lower.bar(places, counts, bottom=below, color=SERIES[number], label=name)
        below += counts
    lower.legend(frameon=False, fontsize=8, ncols=3, **beside)  # above: bars fill the axes
    lower.xaxis.get_major_locator().set_params(integer=True)
    more = f" ({len(facts) - len(read)} more were read by rules of their own)" if len(facts) > len(read) else ""
    lower.set(
        xlabel=f"Recording, in the order of the table{more}", ylabel="Channels", title="Channels of each recording"
    )
    for axes in (upper, lower):
        tidy(axes)
    data = sorted({str(one.get("data", "real")) for one in facts} - {"real"})
    figure.suptitle(f"{len(facts)} recordings" + (f" ({', '.join(data)})" if data else ""))
    return figure


def _spectrum(axes: Axes, recording: Recording) -> None:
    """Draw the power density of every channel, from windows of 4 s that stay inside a stretch."""
    from scipy.signal import welch

    sfreq, length = recording.sfreq, int(4 * recording.sfreq)
    longest = max(recording.stretches, key=lambda s: s.stop - s.start)
    signal = recording.signal[:, longest.start : longest.stop]
    frequency, density = welch(signal, sfreq, nperseg=min(length, signal.shape[1]), axis=1)
    inside = frequency >= 0.5
    decibels = 10 * np.log10(np.maximum(density[:, inside], 1e-12))
    for row in decibels:
        axes.plot(frequency[inside], row, color=SERIES[0], linewidth=0.6, alpha=0.35)
    axes.plot(
        frequency[inside], np.median(decibels, axis=0), color=TRUTH, linewidth=1.8, label="median of the channels"
    )
    tidy(axes)
    axes.set(xlabel="Frequency (Hz)", ylabel="Power density (dB re 1 µV²/Hz)", title="Spectrum after cleaning")
    axes.legend(frameon=False, fontsize=8)


def _head(axes: Axes, recording: Recording) -> None:
    values = np.array(list(_spread(recording).values()))
    most = float(values[placed(recording.ch_names)].max())
    image = draw_head(axes, values, recording.ch_names, vlim=(0.0, most), cmap="viridis")
    axes.figure.colorbar(image, ax=axes, shrink=0.75, label="Standard deviation (µV)")
    axes.set_title("Amplitude of each channel", fontsize=10)


def _bars(axes: Axes, recording: Recording) -> None:
    spread = _spread(recording)
    places = np.arange(len(spread))
    axes.barh(places, list(spread.values()), color=SERIES[0])
    every = max(1, len(spread) // 20)
    axes.set_yticks(places[::every], list(spread)[::every], fontsize=8)
    axes.invert_yaxis()
    tidy(axes)
    axes.set(xlabel="Standard deviation (µV)", title="Amplitude of each channel")


def _spread(recording: Recording) -> dict[str, float]:
    return dict(zip(recording.ch_names, recording.signal.std(axis=1).tolist(), strict=True))
