"""Figures of generated and coded EEG beside real EEG.

Windows that were recorded (or, with stand-in data, made for the purpose) are black; what comes from tokens is green,
and the decoder alone pink, in all figures. Spectra are in dB, traces in uV against seconds, and accuracies of
classifiers are given with their chance level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbkit.ground.figures import BASELINE, SERIES, TRUTH, brief, tidy
from nbkit.neuro.plots.bands import edges_title, stage_title
from nbkit.neuro.plots.codebook import draw_code_use

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MADE, ALONE = SERIES[2], SERIES[3]  # from tokens; by the decoder alone. Blue and orange are training and validation
_OF_CODES = (SERIES[4], SERIES[5])
_COLOURS = {"generated": MADE, "decoder alone": ALONE}


def plot_by_scale(
    made: np.ndarray,
    sfreq: float,
    names: Sequence[str],
    tokens: Sequence[int],
    *,
    real: np.ndarray | None = None,
    bands: Sequence[tuple[float, float]] | None = None,
    channel: int = 0,
    ch_name: str = "",
    title: str = "",
    made_is: str = "from tokens",
) -> Figure:
    """Draw one channel of a window, scale by scale.

    Parameters
    ----------
    made : array of shape (scales, channels, time)
        Cumulative bands from the tokens up to each scale, in uV.
    sfreq : float
        Sampling frequency, in Hz.
    names : sequence of str
        Name of each band.
    tokens : sequence of int
        Number of tokens of each scale.
    real : array of shape (scales, channels, time), optional
        True cumulative bands, in uV; with them each panel shows the share of power explained over all channels.
    bands : sequence of (l_freq, h_freq), optional
        Band edges in Hz.
    channel : int
        Index of the channel to draw.
    ch_name : str
        Name of the channel.
    title : str
    made_is : str
        Label of the generated lines.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    made = np.asarray(made, float)
    time = np.arange(made.shape[-1]) / sfreq
    figure, panels = plt.subplots(
        len(made), 1, figsize=(10, 1.5 + 1.45 * len(made)), sharex=True, sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for scale, axes in enumerate(panels[:, 0]):
        if real is not None:
            axes.plot(time, real[scale][channel], color=TRUTH, linewidth=1.0, label="the window's own band")
            error = float(np.mean((made[scale] - real[scale]) ** 2) / np.mean(np.square(real[scale])))
            axes.set_title(f"{100 * (1 - error):.0f} % of power explained", fontsize=9, loc="right")
        axes.plot(time, made[scale, channel], color=MADE, linewidth=1.3, label=made_is)
        so_far = sum(tokens[: scale + 1])
        heading = f"{stage_title(names, scale)}   {edges_title(bands, scale)}   {so_far} tokens"
        axes.set_title(heading, fontsize=10, loc="left")
        axes.set_ylabel("µV")
        axes.set_xlim(time[0], time[-1])
        tidy(axes)
    panels[-1, 0].set_xlabel("Time in the window (s)")
    figure.suptitle(f"{title} Channel {ch_name or channel}".strip(), fontsize=11, x=0.01, ha="left")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def plot_codebook(history: Sequence[Mapping[str, float]], counts: np.ndarray) -> Figure:
    """Draw the number of codes in use during a training, and how evenly they are used at its end.

    Parameters
    ----------
    history : sequence of mapping
        Rows with step, some of them with val_perplexity and val_codes_used.
    counts : array of shape (codes,)
        Number of uses of each code.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    rows = [row for row in history if row.get("val_perplexity") is not None]
    steps = [row["step"] for row in rows]
    left.plot(
        steps, [row["val_perplexity"] for row in rows], color=_OF_CODES[1], marker="o", markersize=4, label="perplexity"
    )
    used = [row["val_codes_used"] for row in rows]
    left.plot(steps, used, color=_OF_CODES[0], marker="s", markersize=4, label="codes used at least once")
    left.axhline(len(counts), color=BASELINE, linestyle="--", label=f"size of the codebook ({len(counts)})")
    left.set(title="Codebook, validation windows", xlabel="Step", ylabel="Codes", ylim=(0, 1.12 * len(counts)))
    tidy(left)
    left.legend(frameon=False, fontsize=9)
    draw_code_use(right, counts, unit="tokens", colours=_OF_CODES)
    return figure


def plot_spectra(
    freqs: np.ndarray,
    densities: Mapping[str, np.ndarray],
    *,
    real: str = "held-out",
    l_freq: float = 1.0,
    h_freq: float = 40.0,
    within_db: float = 3.0,
) -> Figure:
    """Draw mean spectra in dB, and below them the difference of each from the real one.

    Parameters
    ----------
    freqs : array of shape (freqs,)
        In Hz.
    densities : mapping
        Power spectral density of shape (freqs,), in uV^2/Hz, by name; one name is ``real``.
    real : str
        Name of the spectrum that the others are compared with.
    l_freq, h_freq : float
        Range of the comparison, in Hz.
    within_db : float
        Tolerance in dB, drawn as a band.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    inside = (freqs >= l_freq) & (freqs <= h_freq)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(10, 6.2), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    others = iter(SERIES[4:])
    truth = 10 * np.log10(densities[real][inside])
    below.axhspan(-within_db, within_db, color="#EFEFEF", label=f"within {within_db:g} dB")
    for name, density in densities.items():
        colour = TRUTH if name == real else _COLOURS.get(name) or next(others)
        level = 10 * np.log10(np.maximum(density[inside], 1e-12))
        above.plot(freqs[inside], level, color=colour, linewidth=2.0 if name == real else 1.5, label=name)
        if name != real:
            gap = level - truth
            below.plot(freqs[inside], gap, color=colour, label=f"{name}: at most {np.abs(gap).max():.1f} dB away")
    below.axhline(0, color=TRUTH, linewidth=1)
    above.set(title="Power spectrum, mean over channels and windows", ylabel="dB re 1 µV²/Hz")
    below.set(xlabel="Frequency (Hz)", ylabel="Difference (dB)", xlim=(l_freq, h_freq))
    for axes in (above, below):
        tidy(axes)
    above.legend(frameon=False, fontsize=9, loc="upper right")
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.align_ylabels()
    return figure


def plot_band_powers(powers: Mapping[str, np.ndarray], names: Sequence[str], title: str = "") -> Figure:
    """Draw the distribution of band powers over windows as boxes, with bands and sets of windows side by side.

    Parameters
    ----------
    powers : mapping
        Band powers of shape (windows, bands), averaged over channels, in uV^2, by name of the set.
    names : sequence of str
        Name of each band.
    title : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4.2), layout="constrained")
    width = 0.8 / len(powers)
    for place, (name, power) in enumerate(powers.items()):
        colour = _COLOURS.get(name, TRUTH)
        at = np.arange(len(names)) + (place - (len(powers) - 1) / 2) * width
        level = 10 * np.log10(np.maximum(np.asarray(power, float), 1e-12))
        drawn = axes.boxplot(
            list(level.T), positions=at, widths=0.8 * width, showfliers=False, patch_artist=True, manage_ticks=False
        )
        for box in drawn["boxes"]:
            box.set(facecolor="white", edgecolor=colour, linewidth=1.4)
        for part in ("whiskers", "caps", "medians"):
            for line in drawn[part]:
                line.set(color=colour, linewidth=1.4)
        axes.plot([], [], color=colour, linewidth=2, label=name)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="Power (dB re 1 µV²)", xlabel="Band", title=title or "Band powers of windows, mean over channels")
    tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    return figure


def plot_class_samples(
    samples: Mapping[str, np.ndarray],
    said: Mapping[str, Sequence[str]],
    sfreq: float,
    *,
    channel: int = 0,
    ch_name: str = "",
    each: int = 4,
    chance: float = 0.5,
    accuracy: float | None = None,
    accuracy_real: float | None = None,
) -> Figure:
    """Draw windows generated for each class, with the class that a classifier predicts for each.

    Parameters
    ----------
    samples : mapping
        Windows of shape (windows, channels, time), in uV, by class.
    said : mapping
        The classifier's prediction for each of these windows, by class.
    sfreq : float
        Sampling frequency, in Hz.
    channel : int
        Index of the channel to draw.
    ch_name : str
        Name of the channel.
    each : int
        Number of windows to draw for each class.
    chance, accuracy, accuracy_real : float
        Balanced accuracy of the classifier: chance level, on generated windows, and on held-out windows.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        each, len(samples), figsize=(11, 1.6 + 1.3 * each), sharex=True, sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for column, (name, windows) in enumerate(samples.items()):
        told = 100 * np.mean(np.asarray(said[name]) == name)
        for row in range(each):
            axes = panels[row, column]
            tidy(axes)
            if row < len(windows):
                right = said[name][row] == name
                time = np.arange(windows.shape[-1]) / sfreq
                axes.plot(time, windows[row, channel], color=MADE, linewidth=1.0, linestyle="-" if right else ":")
                axes.set_title(f"classified as {said[name][row]}", fontsize=9, loc="right")
                axes.set_xlim(time[0], time[-1])
            if row == 0:
                heading = f"generated as {name}; {told:.0f} % of {len(windows)} recognised"
                axes.set_title(f"{heading}\n", fontsize=10, loc="left")  # the empty line is for the predicted class
            if column == 0:
                axes.set_ylabel("µV")
        panels[-1, column].set_xlabel("Time in the window (s)")
    words = [f"Channel {ch_name or channel}. Solid: the classifier is right; dotted: it is wrong."]
    if accuracy is not None:
        real = "" if accuracy_real is None else f", {brief(accuracy_real)} on held-out windows"
        words.append(f"Balanced accuracy: {brief(accuracy)} on generated windows{real}; chance {brief(chance)}.")
    figure.suptitle("\n".join(words), fontsize=10.5, x=0.01, ha="left")
    return figure
