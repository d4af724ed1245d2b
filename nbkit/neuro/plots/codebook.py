"""Figures of codebooks: use of codes, prediction of hidden codes, and reconstruction of windows.

Accuracies are drawn beside chance, and reconstructions beside their windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, TRUTH, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_code_use(counts: Any, *, title: str = "") -> Figure:
    """Draw how often each code is used for a patch, with the most frequent first.

    Parameters
    ----------
    counts : array of shape (codes,)
        Number of uses of each code.
    title : str

    Returns
    -------
    figure : matplotlib Figure
        The title has the number of unused codes, and a line shows the perplexity: the number of equally used codes
        with the same entropy.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    draw_code_use(axes, counts, title=title)
    return figure


def draw_code_use(
    axes: Axes, counts: Any, *, title: str = "", unit: str = "patches", colours: tuple[str, str] = (FIRST, SECOND)
) -> None:
    """Draw the content of `plot_code_use` into axes; ``unit`` names what a code represents, in the plural.
    colours : tuple of str
        Of the codes and of the perplexity.

    Raises
    ------
    ValueError
        If ``counts`` is not one-dimensional or all its values are 0.
    """
    counts = np.sort(np.asarray(counts, dtype=float))[::-1]
    if counts.ndim != 1 or counts.sum() <= 0:
        raise ValueError(
            f"The counts have shape {counts.shape} and {counts.sum():g} uses; pass one count per code, with some "
            "above 0."
        )
    share = counts / counts.sum()
    held = share[share > 0]
    perplexity = float(np.exp(-(held * np.log(held)).sum()))
    axes.bar(np.arange(1, len(share) + 1), 100 * share, width=1.0, color=colours[0], label="codes")
    even = 100 / len(share)
    axes.axhline(even, color=BASELINE, linestyle="--", label=f"even use ({even:.3g} %)")
    axes.axvline(perplexity, color=colours[1], linewidth=1.4, label=f"perplexity ({perplexity:.1f} codes)")
    axes.set(xlim=(0.5, len(share) + 0.5), xlabel="Code, most frequent first (rank)", ylabel=f"Share of all {unit} (%)")
    words = f"{int((counts == 0).sum())} of {len(counts)} codes unused over {int(counts.sum())} {unit}"
    axes.set_title(f"{title}: {words}" if title else words, fontsize=11, loc="left")
    tidy(axes)
    axes.legend(frameon=False, fontsize=9)


def plot_codebook_training(history: Sequence[Mapping[str, Any]], codes: int, *, stand_in: str = "") -> Figure:
    """Draw a codebook's losses and the number of codes in use against steps.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of the metrics.
    codes : int
        Size of the codebook.
    stand_in : str
        Description of stand-in data, written above the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    left.plot(*_series(history, "tok_loss"), color=FIRST, linewidth=0.8, alpha=0.5, label="training, total")
    for name, words, colour in (
        ("val_tok_loss", "validation, total", SERIES[0]),
        ("val_amplitude_loss", "amplitude", SERIES[2]),
        ("val_phase_loss", "phase", SERIES[3]),
    ):
        left.plot(*_series(history, name), color=colour, marker="o", markersize=3.5, label=words)
    swapped = _series(history, "val_amplitude_loss_swapped")
    left.plot(*swapped, color=BASELINE, linestyle="--", label="amplitude, another window's codes")
    left.set(title="Loss", xlabel="Step", ylabel="Mean squared error (z-scored)")
    right.plot(*_series(history, "val_perplexity"), color=SECOND, marker="o", markersize=4, label="perplexity")
    steps, empty = _series(history, "val_unused_codes")
    right.plot(steps, [codes - value for value in empty], color=FIRST, marker="s", markersize=3.5, label="in use")
    right.axhline(codes, color=BASELINE, linestyle="--", label=f"all {codes}")
    right.set(title="Codes on validation windows", xlabel="Step", ylabel="Codes", ylim=(0, 1.08 * codes))
    return _finished(figure, (left, right), stand_in)


def plot_masked_accuracy(history: Sequence[Mapping[str, Any]], codes: int, *, stand_in: str = "") -> Figure:
    """Draw the masked loss, the accuracy of predicted hidden codes beside chance, and the probe of band powers.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of the metrics.
    codes : int
        Size of the codebook, which determines the chance level.
    stand_in : str
        Description of stand-in data, written above the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    probed = _series(history, "val_probe_r2")
    count = 3 if probed[0] else 2
    figure, axes = plt.subplots(1, count, figsize=(5 * count, 3.8), layout="constrained")
    left, right = axes[:2]
    for place in axes[2:]:
        place.plot(*probed, color=SECOND, marker="o", markersize=4, label="ridge on the mean token")
        place.axhline(0, color=BASELINE, linestyle="--", label="mean power")
        place.set(title="Band power read out", xlabel="Step", ylabel="R2 (1)")
    left.plot(*_series(history, "mem_loss"), color=FIRST, linewidth=0.8, alpha=0.5, label="training")
    left.plot(*_series(history, "val_mem_loss"), color=SECOND, marker="o", markersize=4, label="validation")
    frequent = _series(history, "val_mem_loss_by_frequency")[1]
    if frequent:
        left.axhline(frequent[-1], color=BASELINE, linestyle="--", label=f"by frequency ({frequent[-1]:.3g} nat)")
    left.set(title="Cross-entropy of both halves", xlabel="Step", ylabel="Loss (nat)")
    steps, right_share = _series(history, "val_mlm_acc")
    right.plot(steps, [100 * v for v in right_share], color=SECOND, marker="o", markersize=4, label="validation")
    steps, commonest = _series(history, "val_commonest_code")
    if commonest:
        share = 100 * commonest[-1]
        right.axhline(share, color=BASELINE, linestyle="--", label=f"most frequent code ({share:.3g} %)")
    chance = 100 / codes
    right.axhline(chance, color=TRUTH, linestyle=":", label=f"chance, 1 of {codes} ({chance:.2g} %)")
    right.set(title="Prediction of hidden codes", xlabel="Step", ylabel="Accuracy (%)")
    right.set_ylim(bottom=0)
    return _finished(figure, tuple(axes), stand_in)


def plot_reconstruction(
    window: Any,
    reconstruction: Any,
    sfreq: float,
    ch_names: Sequence[str],
    *,
    patch: int,
    own_phase: Any = None,
    picks: int = 4,
    title: str = "",
) -> Figure:
    """Draw channels of a window and their reconstruction from codes, in time and in frequency.

    Parameters
    ----------
    window, reconstruction : array of shape (channels, time)
        In uV.
    sfreq : float
        Sampling frequency, in Hz.
    ch_names : sequence of str
    patch : int
        Samples per patch; amplitudes are averaged over patches.
    own_phase : array of shape (channels, time), optional
        Reconstruction from the codes' amplitudes and the window's own phases, in uV.
    picks : int
        Number of channels to draw, evenly spaced.
    title : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    window, reconstruction = np.asarray(window, dtype=float), np.asarray(reconstruction, dtype=float)
    if window.shape != reconstruction.shape or len(window) != len(ch_names):
        raise ValueError(
            f"Got a window of shape {window.shape}, a reconstruction of {reconstruction.shape} and {len(ch_names)} "
            "names; both must be (channels, time)."
        )
    rows = sorted({int(i) for i in np.linspace(0, len(window) - 1, min(picks, len(window))).round()})
    time = np.arange(window.shape[1]) / sfreq
    hertz = np.fft.rfftfreq(patch, 1 / sfreq)
    lines = [(window, TRUTH, "window"), (reconstruction, SECOND, "from its codes")]
    if own_phase is not None:
        lines.insert(1, (np.asarray(own_phase, dtype=float), FIRST, "codes' amplitudes, window's own phases"))
    figure, panels = plt.subplots(
        len(rows), 2, figsize=(10, 1.2 + 1.5 * len(rows)), width_ratios=(2, 1), sharex="col", layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for (left, right), row in zip(panels, rows, strict=True):
        for signal, colour, words in lines:
            left.plot(time, signal[row], color=colour, linewidth=1.0, label=words)
            if colour != FIRST:  # its amplitudes are the same as those of the reconstruction
                bins = np.abs(np.fft.rfft(signal[row].reshape(-1, patch))).mean(axis=0)
                right.plot(hertz[1:], 2 * bins[1:] / patch, color=colour, linewidth=1.2)
        left.set_ylabel(f"{ch_names[row]}\n(µV)")
        right.set_ylabel("µV")
        tidy(left)
        tidy(right)
    panels[0, 0].set_title("Signal", fontsize=10, loc="left")
    panels[0, 1].set_title("Amplitude, mean over patches", fontsize=10, loc="left")
    panels[-1, 0].set_xlabel("Time in the window (s)")
    panels[-1, 1].set_xlabel("Frequency (Hz)")
    figure.align_ylabels(panels[:, 0])
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _series(history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    rows = [(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None]
    return [step for step, _ in rows], [value for _, value in rows]


def _finished(figure: Figure, panels: Sequence[Any], stand_in: str) -> Figure:
    for axes in panels:
        tidy(axes)
        axes.legend(frameon=False, fontsize=8)
    title_stand_in(figure, stand_in)
    return figure
