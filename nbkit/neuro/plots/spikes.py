"""Figures of spikes: a window of counts, a training, a comparison of decoders, and bits per spike.

Decoders are drawn beside the best possible one if it is known, and bits per spike beside 0, the score of mean rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, TRUTH, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_spike_window(
    counts: np.ndarray,
    bin_s: float,
    behaviour: np.ndarray,
    unit: str,
    *,
    task: str = "behaviour",
    recording: str = "",
    circular: bool = False,
    activity: str = "spikes",
    observed: np.ndarray | None = None,
    stand_in: str = "",
) -> Figure:
    """Draw the activity of each unit in one window, above the behaviour.

    Parameters
    ----------
    counts : ndarray of shape (bins, units)
    bin_s : float
        Length of a bin, in s.
    behaviour : ndarray of shape (bins, dims)
        With 0 dims, the counts alone are drawn.
    unit : str
        Unit of the behaviour.
    task, recording : str
        Names of the behaviour and the recording.
    circular : bool
        Whether the behaviour is the cosine and the sine of an angle.
    activity : {"spikes", "events", "trace"}
    observed : bool ndarray of shape (bins, units or 1), optional
        Other bins are drawn in colour: nothing is known there.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    dims = behaviour.shape[1]
    figure, panels = plt.subplots(
        2 if dims else 1, 1, figsize=(10, 5.2 if dims else 3.6), layout="constrained", sharex=True, squeeze=False,
        height_ratios=[2, 1] if dims else [1],
    )  # fmt: skip
    top, length = panels[0, 0], len(counts) * bin_s
    how = dict(aspect="auto", origin="lower", interpolation="nearest", extent=(0, length, 0, counts.shape[1]))
    most = float(np.quantile(np.abs(counts), 0.995)) if activity == "trace" else None
    image = top.imshow(
        np.asarray(counts).T, cmap="Greys" if most is None else "RdBu_r", vmin=None if most is None else -most,
        vmax=most, **how,
    )  # fmt: skip
    label = {"spikes": "Spikes per bin", "events": "Size of events per bin (1)", "trace": "Trace, dF/F (1)"}[activity]
    figure.colorbar(image, ax=top, label=label, pad=0.01)
    if observed is not None and not observed.all():
        unseen = np.ma.masked_where(np.broadcast_to(observed, counts.shape).T, np.ones(counts.shape).T)
        top.imshow(unseen, cmap="summer", alpha=0.5, **how)
    top.set(ylabel="Unit", title=f"{recording}: {counts.shape[1]} units, bins of {1e3 * bin_s:g} ms".lstrip(": "))
    time = bin_s * (np.arange(len(counts)) + 0.5)
    for dim in range(dims):
        name = f"{task} {'xyz'[dim]}" if 1 < dims <= 3 else task if dims == 1 else f"{task} {dim}"
        name = f"{('cosine', 'sine')[dim]} of {task}" if circular else name
        panels[1, 0].plot(time, behaviour[:, dim], color=SERIES[dim % len(SERIES)], linewidth=1.8, label=name)
    panels[-1, 0].set_xlabel("Time in the window (s)")
    if dims:
        panels[1, 0].set_ylabel(f"{task.capitalize()} ({'1' if circular else unit})")
        panels[1, 0].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        tidy(panels[1, 0])
    title_stand_in(figure, stand_in)
    return figure


def plot_spike_recordings(shards: Sequence[Any], *, stand_in: str = "") -> Figure:
    """Draw the number of units, the signal-to-noise ratio and the observed share of each recording.

    Parameters
    ----------
    shards : sequence of SpikeShard
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, 3, figsize=(12, 1.6 + 0.3 * len(shards)), layout="constrained", sharey=True
    )  # fmt: skip
    places = range(len(shards))
    seen = [float(np.asarray(shard.observed).mean()) for shard in shards]
    for panel, values, label, colour in (
        (axes[0], [shard.n_units for shard in shards], "Units (1)", FIRST),
        (axes[1], [shard.snr for shard in shards], "SNR, split-half reliability (1)", SECOND),
        (axes[2], seen, "Observed share of the windows (1)", SERIES[2]),
    ):
        panel.barh(places, values, color=colour, height=0.6)
        panel.set_xlabel(label)
        tidy(panel)
    axes[1].set_xlim(0, 1)
    axes[2].set_xlim(0, 1.02)
    axes[0].set_yticks(places, [f"{shard.name} ({shard.activity})" for shard in shards], fontsize=9)
    axes[0].invert_yaxis()
    title_stand_in(figure, stand_in)
    return figure


def plot_spike_training(
    history: Sequence[Mapping[str, Any]], *, best_r2: float | None = None, stand_in: str = ""
) -> Figure:
    """Draw a training's losses, and the validation scores of behaviour and of hidden units.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and ``train_masked``, ``train_behaviour``, ``val_r2``, ``val_bits_per_spike``.
    best_r2 : float, optional
        R² of the best possible decoder.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for name, label, colour in (
        ("train_behaviour", "behaviour (squared error, 1)", SECOND),
        ("train_masked", "hidden units (Poisson, nat)", FIRST),
    ):
        steps, values = _series(history, name)
        left.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        width = max(1, len(values) // 20)
        smooth = [np.mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]
        left.plot(steps, smooth, color=colour, linewidth=1.8, label=label)
    left.set(title="Training", xlabel="Step", ylabel="Loss per bin")
    middle.plot(*_series(history, "val_r2"), color=SECOND, marker="o", markersize=4, label="model")
    middle.axhline(0, color=BASELINE, linestyle="--", label="mean behaviour")
    if best_r2 is not None:
        middle.axhline(best_r2, color=TRUTH, linewidth=1.2, label=f"best possible ({best_r2:.2f})")
    middle.set(title="Validation: behaviour", xlabel="Step", ylabel="Variance decoded, R² (1)")
    right.plot(*_series(history, "val_bits_per_spike"), color=FIRST, marker="o", markersize=4, label="model")
    right.axhline(0, color=BASELINE, linestyle="--", label="mean rates")
    right.set(title="Validation: hidden units", xlabel="Step", ylabel="Gain over mean rates (bit/spike)")
    for axes in (left, middle, right):
        tidy(axes)
        axes.legend(frameon=False, fontsize=9)
    title_stand_in(figure, stand_in)
    return figure


def plot_decoders(scores: Sequence[Any], *, best: str = "best possible", stand_in: str = "") -> Figure:
    """Draw the scores of decoders: a bar for the mean over recordings, and a dot for each recording.

    Parameters
    ----------
    scores : sequence
        Each with ``recording``, ``decoder``, ``value`` (R2, or accuracy if ``is_classes``), ``error`` (NaN: not drawn)
        and its ``unit``.
    best : str
        Name of the decoder that knows the true process; drawn in black.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    panels: list[tuple[str, list[Any]]] = []
    for is_classes, label in ((False, "Variance decoded, R² (1)"), (True, "Windows of the right class (1)")):
        panels.append((label, [score for score in scores if score.is_classes == is_classes]))
    for unit in dict.fromkeys(score.unit for score in scores if np.isfinite(score.error)):
        label = f"Median error ({'degrees' if unit == 'deg' else unit or '1'})"
        panels.append((label, [score for score in scores if score.unit == unit and np.isfinite(score.error)]))
    panels = [panel for panel in panels if panel[1]] or panels[:1]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.5 + 4.7 * len(panels), 3.9), layout="constrained", squeeze=False
    )
    for place, (label, own) in zip(axes[0], panels, strict=True):
        column = "error" if label.startswith("Median") else "value"
        _bars(place, own, column, best)
        place.set(title="Behaviour on held-out time", ylabel=label)
    title_stand_in(figure, stand_in)
    return figure


def plot_bits_per_spike(
    bits: Mapping[str, Any], snr: Mapping[str, float] | None = None, *, stand_in: str = ""
) -> Figure:
    """Draw the prediction of each recording's masked units as the gain over two null models.

    Parameters
    ----------
    bits : mapping of str to Bits
        By recording, with ``over_training``, ``over_evaluated`` and ``unit``.
    snr : mapping of str to float, optional
        Each recording's signal-to-noise ratio, written below its name.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(max(6.5, 1.3 * len(bits) + 2.5), 3.9), layout="constrained")
    for shift, column, colour, label in (
        (-0.2, "over_training", FIRST, "over means of the training windows"),
        (0.2, "over_evaluated", SECOND, "over means of these windows (NLB)"),
    ):
        values = [getattr(bit, column) for bit in bits.values()]
        axes.bar([place + shift for place in range(len(bits))], values, color=colour, width=0.36, label=label)
    axes.axhline(0, color=BASELINE, linestyle="--")
    names = [f"{name}\nSNR {snr[name]:.2f}" if snr else name for name in bits]
    axes.set_xticks(range(len(bits)), names, fontsize=9)
    units = ", ".join(dict.fromkeys(bit.unit for bit in bits.values())) or "bit/spike"
    axes.set(title="Masked units on held-out time", ylabel=f"Gain over mean rates ({units})")
    axes.margins(y=0.3)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    tidy(axes)
    title_stand_in(figure, stand_in)
    return figure


def _bars(axes: Axes, scores: Sequence[Any], what: str, best: str) -> None:
    names = list(dict.fromkeys(score.decoder for score in scores))
    names.sort(key=lambda name: float(np.mean([getattr(s, what) for s in scores if s.decoder == name])))
    names = names[::-1] if what == "value" else names  # the best decoder first: high score, small error
    for place, name in enumerate(names):
        values = [getattr(score, what) for score in scores if score.decoder == name]
        colour = TRUTH if name == best else BASELINE if name == "mean" else FIRST if name == "NeuroFM" else SERIES[5]
        axes.bar(place, np.mean(values), color=colour, width=0.65, alpha=0.85)
        offsets = 0.24 * (np.arange(len(values)) - (len(values) - 1) / 2) / max(1, (len(values) - 1) / 2)
        axes.plot(place + offsets, values, "o", color="white", markeredgecolor="#333333", markersize=4.5)
        axes.annotate(
            f"{np.mean(values):.3g}", (place, max([0.0, *values])), xytext=(0, 5), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.axhline(0, color=BASELINE, linewidth=0.8)
    axes.margins(y=0.15)
    tidy(axes)


def _series(history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    rows = [(int(row["step"]), float(row[name])) for row in history if row.get(name) is not None]
    return [step for step, _ in rows], [value for _, value in rows]
