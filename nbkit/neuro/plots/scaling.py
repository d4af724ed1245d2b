"""Figures of scores against data, model size and compute.

A fitted curve is always drawn with its interval and the runs that it was fitted to, and a prediction with the point
where the runs end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, TRUTH, brief, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STATES = {"passed": "#009E73", "failed": "#D55E00", "not measured": BASELINE}


def plot_scaling(
    sizes: Sequence[float],
    losses: Sequence[float],
    *,
    verdict: str,
    curve: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None,
    prediction: tuple[float, float, float, float] | None = None,
    baseline: float | None = None,
    baseline_is: str = "mean rate",
    size_is: str = "Recordings",
    loss_is: str = "Loss",
    unit: str = "bit/spike",
    law: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw losses of runs against size on log axes, with the fitted power law and its prediction.

    Parameters
    ----------
    sizes, losses : array of shape (runs,)
        Size and loss of each run; several seeds can have the same size.
    verdict : str
        Conclusion in words, used as the title.
    curve : (sizes, loss, low, high), optional
        Arrays of the same shape: the fitted law and its interval. None if there are too few runs.
    prediction : (size, loss, low, high), optional
        Predicted loss and its interval at the next size.
    baseline : float, optional
        Loss of the baseline.
    baseline_is : str
        Name of the baseline.
    size_is, loss_is, unit : str
        Labels of the axes.
    law : str
        The fitted parameters, for the legend.
    stand_in : str
        Description of stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    sizes, losses = np.asarray(sizes, float), np.asarray(losses, float)
    figure, axes = plt.subplots(figsize=(9.5, 4.8), layout="constrained")
    if curve is not None:
        at, loss, low, high = curve
        axes.fill_between(at, low, high, color=FIRST, alpha=0.15, linewidth=0, label="interval of the fit")
        axes.plot(at, loss, color=FIRST, linewidth=1.4, label=law or "fitted power law")
    axes.plot(sizes, losses, "o", color=TRUTH, markersize=4, alpha=0.6, label="runs, one per seed")
    for size in np.unique(sizes):
        axes.plot(size, losses[sizes == size].mean(), "_", color=TRUTH, markersize=18)
    if prediction is not None:
        size, loss, low, high = prediction
        ends = [[loss - low], [high - loss]]
        label = f"expected at {size:g}: {brief(loss)} ({brief(low)} to {brief(high)})"
        axes.errorbar([size], [loss], ends, fmt="D", color=SECOND, markersize=6, capsize=5, label=label)
        axes.axvline(sizes.max(), color="#BBBBBB", linestyle=":", linewidth=1)
    if baseline is not None:
        axes.axhline(baseline, color=BASELINE, linestyle="--", label=f"{baseline_is} ({brief(baseline)})")
    if len(sizes):  # matplotlib cannot draw a log axis without data
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    shown = sorted({*sizes.tolist(), *([prediction[0]] if prediction is not None else [])})
    axes.set_xticks(shown, [f"{size:g}" for size in shown])
    if len(sizes):
        _plain_log_ticks(axes)
    axes.set(xlabel=f"{size_is} (log scale)", ylabel=f"{loss_is} ({unit}, log scale)")
    axes.set_title(_wrapped(verdict, 90), fontsize=10, loc="left")
    tidy(axes)
    _legend_beside(axes)
    title_stand_in(figure, stand_in)
    return figure


def plot_score_against_compute(
    configurations: Sequence[Any],
    spot: str,
    *,
    reason: str = "",
    baseline: float | None = None,
    baseline_is: str = "mean rate",
    score_is: str = "Score",
    unit: str = "bit/spike",
    compute_is: str = "Compute of one training",
    compute_unit: str = "PFLOP",
    stand_in: str = "",
) -> Figure:
    """Draw the score of each configuration against its cost, the Pareto front, and the recommended one.

    Parameters
    ----------
    configurations : sequence
        Each with ``name``, ``compute``, ``score``, ``error`` and ``on_front``.
    spot : str
        Name of the recommended configuration.
    reason : str
        Reason for the recommendation, used as the title.
    baseline, baseline_is
        Score and name of the baseline.
    score_is, unit, compute_is, compute_unit : str
        Labels of the axes.
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    front = sorted((one for one in configurations if one.on_front), key=lambda one: one.compute)
    axes.step([o.compute for o in front], [o.score for o in front], where="post", color=BASELINE, linewidth=1,
              label="nothing cheaper scores higher")  # fmt: skip
    for one in configurations:
        colour = SECOND if one.name == spot else FIRST
        axes.errorbar([one.compute], [one.score], [one.error], fmt="o", color=colour, capsize=4, markersize=6)
        axes.annotate(one.name, (one.compute, one.score), xytext=(8, 7), textcoords="offset points", fontsize=9)
        if one.name == spot:
            ring = dict(color=SECOND, markersize=14, fillstyle="none", label="sweet spot")
            axes.plot(one.compute, one.score, "o", **ring)
    if baseline is not None:
        axes.axhline(baseline, color=BASELINE, linestyle="--", label=f"{baseline_is} ({brief(baseline)})")
    axes.set_xscale("log" if configurations else "linear")  # matplotlib cannot draw a log axis without data
    axes.margins(x=0.18, y=0.16)
    axes.set(xlabel=f"{compute_is} ({compute_unit}, log scale)", ylabel=f"{score_is} ({unit})")
    axes.set_title(_wrapped(reason, 90), fontsize=10, loc="left")
    tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    title_stand_in(figure, stand_in)
    return figure


def plot_few_shot(
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]],
    *,
    levels: Mapping[str, float] | None = None,
    shots_are: str = "Labelled windows of the new recording",
    score_is: str = "Score",
    unit: str = "1",
    title: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw scores against the number of examples, pretrained and from scratch, with thin dots for each recording.

    Parameters
    ----------
    curves : mapping of str to (shots, scores)
        Curves by method of adaptation; ``scores`` has shape (recordings and seeds, shots). Zero shots are drawn at the
        left edge, and the methods a little apart.
    levels : mapping of str to float, optional
        Horizontal lines for comparison, such as chance or the optimal decoder.
    shots_are, score_is, unit, title, stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    every = sorted({float(shot) for shots, _ in curves.values() for shot in shots})
    place = {shot: at for at, shot in enumerate(every)}
    apart = np.linspace(-0.15, 0.15, len(curves)) if len(curves) > 1 else [0.0]
    for (name, (shots, scores)), colour, aside in zip(curves.items(), SERIES * 2, apart, strict=False):
        at, scores = [place[float(shot)] + aside for shot in shots], np.atleast_2d(scores)
        for row in scores:
            axes.plot(at, row, ".-", color=colour, linewidth=0.8, markersize=5, alpha=0.35)
        axes.plot(at, scores.mean(axis=0), "o-", color=colour, linewidth=1.8, label=f"{name} (mean of {len(scores)})")
    for (name, level), line in zip((levels or {}).items(), ("--", "-.", ":") * 3, strict=False):
        axes.axhline(level, color=BASELINE, linestyle=line, label=f"{name} ({brief(level)})")
    axes.set_xticks(range(len(every)), [f"{shot:g}" for shot in every])
    axes.set_xlim(-0.5, max(len(every), 1) - 0.5)
    axes.set(xlabel=shots_are, ylabel=f"{score_is} ({unit})" if unit != "1" else score_is)
    axes.set_title(_wrapped(title, 90), fontsize=10, loc="left")
    tidy(axes)
    _legend_beside(axes)
    title_stand_in(figure, stand_in)
    return figure


def plot_ways(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    baseline: float = 0.0,
    baseline_is: str = "mean rate",
    score_is: str = "Prediction of hidden units",
    unit: str = "bit/spike",
    title: str = "",
    stand_in: str = "",
) -> Figure:
    """Draw scores of several methods in several groups, with a point for each case and a bar for the mean.

    Parameters
    ----------
    groups : mapping of str to mapping of str to sequence of float
        Scores by group and method.
    baseline, baseline_is
        Score and name of the baseline.
    score_is, unit, title, stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
    ways = list(dict.fromkeys(way for group in groups.values() for way in group))
    colours = dict(zip(ways, SERIES * 2, strict=False))
    for place, group in enumerate(groups.values()):
        for way, scores in group.items():
            at = place + (ways.index(way) - (len(ways) - 1) / 2) * 0.8 / len(ways)
            axes.plot([at] * len(scores), scores, "o", color=colours[way], markersize=4, alpha=0.5)
            label = way if place == 0 or way not in next(iter(groups.values())) else ""
            axes.plot([at - 0.07, at + 0.07], [np.mean(scores)] * 2, color=colours[way], linewidth=3, label=label)
    axes.axhline(baseline, color=BASELINE, linestyle="--", label=f"{baseline_is} ({brief(baseline)})")
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.6, max(len(groups), 1) - 0.4)
    axes.set_ylabel(f"{score_is} ({unit})")
    axes.set_title(_wrapped(title, 90), fontsize=10, loc="left")
    tidy(axes)
    _legend_beside(axes)
    title_stand_in(figure, stand_in)
    return figure


def plot_ladder(rows: Sequence[Mapping[str, Any]], *, rate: str = "", stand_in: str = "") -> Figure:
    """Draw the compute of each rung of the scaling ladder, and the state of its gate.

    Parameters
    ----------
    rows : sequence of mapping
        Each with recordings, title, hours, planned_hours (low, high), sessions, dollars, gate. A rung whose hours are
        None, because no rate was measured, has its dot at the middle of the plan's estimate.
    rate : str
        The rate from which the hours are computed.
    stand_in : str
        Description of stand-in data behind the gates.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(figsize=(10, 1.8 + 0.62 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        low, high = row["planned_hours"]
        measured = row["hours"] is not None
        fill = {} if measured else {"fillstyle": "none", "markeredgewidth": 2}
        at = row["hours"] if measured else (low * high) ** 0.5
        axes.plot(at, place, "o", color=_STATES[row["gate"]], markersize=11, **fill)
        axes.plot(
            [low, high], [place, place], color=TRUTH, linewidth=2, label="" if place else "the plan's own estimate"
        )
        price = "" if row["dollars"] is None else f", {row['dollars']:.0f} paid"
        words = (
            f"{brief(row['hours'])} h, {row['sessions']} session{'s' * (row['sessions'] != 1)}{price}"
            if measured
            else f"{low} to {high} h planned"
        )
        axes.annotate(words, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    names = [f"{row['recordings']}{'+' * (row['recordings'] >= 100)} recordings\n{row['title']}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlabel("Accelerator hours of all runs (log scale)")
    axes.set_title(rate, fontsize=10, loc="left")
    tidy(axes)
    gates = [Line2D([], [], marker="o", color=c, linestyle="", label=f"gate: {s}") for s, c in _STATES.items()]
    figure.legend(handles=[*gates, *axes.get_legend_handles_labels()[0]], loc="outside lower center", ncols=4,
                  frameon=False, fontsize=9)  # fmt: skip
    title_stand_in(figure, stand_in)
    return figure


def _plain_log_ticks(axes: Axes) -> None:
    """Label a log axis of less than two decades with a few plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 100:
        axes.yaxis.set_major_locator(MaxNLocator(7) if high / low < 3 else LogLocator(subs=(1, 2, 5), numticks=12))
        digits = 2 + max(0, int(np.ceil(-np.log10(max(high / low - 1, 1e-9)))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}g}"))
        axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(LogLocator(subs=()))


def _legend_beside(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _wrapped(words: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words, width))
