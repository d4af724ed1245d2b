"""Figures of decoding: scores with their baselines, trainings and embeddings.

Every score is drawn with its interval over groups, the trivial score and that of a linear model on band powers.
Published scores have a panel of their own, because they were measured on other data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, TRUTH, tidy, title_stand_in

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_MODES = ("baseline", "frozen", "head", "full", "lora", "qlora", "scratch")
_COLOURS = dict(zip(_MODES, (BASELINE, *SERIES, "#7f7f7f"), strict=False))
_MARKS = "os^Dv"  # one for each round of the colours
_WORDS = {"balanced_accuracy": "Balanced accuracy", "auc": "AUC", "r2": "R²"}

Record = Mapping[str, Any]


def words_for(records: Sequence[Record]) -> str:
    """Return what a figure says above itself of its data and weights: stand-ins and random backbones."""
    data = sorted({str(record["data"]) for record in records})
    random = any("random" in str(record["info"].get("weights", "")) for record in records)
    return "; ".join(data) + ("; random backbones" if random else "")


def plot_comparison(
    table: pandas.DataFrame,
    *,
    published: Sequence[Any] = (),
    published_is: str = "",
    published_chance: float = 0.25,
    stand_in: str = "",
) -> Figure:
    """Draw the score of each model and mode with its interval over groups, chance, and the band-power baseline.

    Parameters
    ----------
    table : DataFrame
        See `judging.comparison.subject_table`.
    published : sequence of Published
        Published scores, drawn in a panel of their own.
    published_is : str
        Source and data of the published scores.
    published_chance : float
        Chance level of the published scores.
    stand_in : str
        Description of stand-in data and weights, written above the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    rows, score = table.to_dict("records"), table["score_name"].iloc[0]
    several = table["task"].nunique() > 1
    columns, height = 2 if published else 1, 1.6 + 0.34 * max(len(rows), len(published))
    figure, panels = plt.subplots(
        1, columns, figsize=(7.5 * columns - 1.0, height), layout="constrained", squeeze=False
    )
    axes = panels[0][0]
    trivial = float(table["trivial"].mean())
    axes.axvline(
        trivial, color=BASELINE, linestyle="--", label=f"{'chance' if score != 'r2' else 'mean'} {trivial:.2f}"
    )
    reference = table[(table["model"] == "band_power") & (table["mode"] == "baseline")]
    if len(reference) and not several:
        beside = float(reference["score"].iloc[0])
        axes.axvline(beside, color=TRUTH, linewidth=1.2, label=f"band powers {beside:.2f}")
    for place, row in enumerate(rows):
        colour = _COLOURS.get(row["mode"], FIRST)
        if np.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.0, alpha=0.6)
        told = not str(row["said"]).startswith(("above", "below"))
        face = "none" if told and row["said"] else colour
        axes.plot(row["score"], place, "D", color=colour, markersize=7, markerfacecolor=face)
        axes.annotate(f"{row['score']:.2f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", size=9)
    names = [f"{row['task']}: " if several else "" for row in rows]
    axes.set_yticks(
        range(len(rows)), [f"{name}{row['model']}, {row['mode']}" for name, row in zip(names, rows, strict=True)],
        fontsize=9,
    )  # fmt: skip
    axes.set_ylim(len(rows) - 0.4, -0.6)
    unit = f"95 % interval over {int(table['groups'].min())} or more groups"
    axes.set_xlabel(f"{_WORDS.get(score, score)} ({unit}; hollow: not distinguishable from band powers)")
    axes.set_title("Measured here", loc="left", fontsize=11)
    tidy(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    if published:
        _published(panels[0][1], published, published_is, published_chance)
    title_stand_in(figure, stand_in)
    return figure


def plot_trainable(table: pandas.DataFrame, *, stand_in: str = "") -> Figure:
    """Draw scores against the number of trained weights, with a point for each model and mode.

    Parameters
    ----------
    table : DataFrame
        See `judging.comparison.subject_table`.
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    score = table["score_name"].iloc[0]
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    trivial = float(table["trivial"].mean())
    axes.axhline(trivial, color=BASELINE, linestyle="--", label=f"chance {trivial:.2f}")
    reference = table[(table["model"] == "band_power") & (table["mode"] == "baseline")]
    if len(reference):
        beside = float(reference["score"].mean())
        axes.axhline(beside, color=TRUTH, linewidth=1.2, label=f"band powers {beside:.2f}")
    models = sorted(set(table.loc[table["mode"] != "baseline", "model"]))
    marks = {model: "osD^vP*Xhp<>d8"[number % 14] for number, model in enumerate(models)}
    for row in table.to_dict("records"):
        if row["mode"] == "baseline":
            continue
        ends = [[row["score"] - row["low"]], [row["high"] - row["score"]]] if np.isfinite(row["low"]) else None
        axes.errorbar(
            max(int(row["trained"]), 1), row["score"], ends, fmt=marks[row["model"]], color=_COLOURS[row["mode"]],
            markersize=7, linewidth=1.0,
        )  # fmt: skip
    for model in models:
        axes.plot([], [], marks[model], color="#444444", label=model)
    for mode in [mode for mode in _MODES[1:] if mode in set(table["mode"])]:
        axes.plot([], [], "s", color=_COLOURS[mode], label=mode)
    axes.set_xscale("log")
    axes.set(xlabel="Number of trained weights (1: none, a linear model on embeddings)")
    axes.set_ylabel(f"{_WORDS.get(score, score)} (bars: 95 % interval over groups)")
    tidy(axes)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    title_stand_in(figure, stand_in)
    return figure


def plot_trainings(records: Sequence[Record], *, stand_in: str = "") -> Figure:
    """Draw losses and gradient norms of trainings; a ring marks the best step, whose weights are used.

    Parameters
    ----------
    records : sequence of mapping
        One record per fold, with history and checkpoint; folds of the same mode have the same colour.
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    seen = set()
    for record in [r for r in records if r.get("history")]:
        mode, history = record["mode"], record["history"]
        look = {"color": _COLOURS[mode], "linewidth": 1.2, "label": mode if mode not in seen else None}
        seen.add(mode)
        for axes, name in ((left, "train_loss"), (middle, "val_loss"), (right, "grad_norm")):
            pairs = [(row["step"], row[name]) for row in history if np.isfinite(row.get(name, np.nan))]
            if pairs:
                axes.plot(*zip(*pairs, strict=True), **look, marker="." if name == "val_loss" else None)
        best = record["checkpoint"]["best_step"]
        kept = [row["val_loss"] for row in history if row["step"] == best and "val_loss" in row]
        middle.plot([best] * len(kept), kept, "o", color=_COLOURS[mode], markersize=9, markerfacecolor="none")
    unit = "variances of the target" if any(r["kind"] == "regression" for r in records) else "nats"
    left.set(title="Training batches", xlabel="Step", ylabel=f"Loss ({unit})")
    middle.set(title="Groups for choosing the step", xlabel="Step", ylabel=f"Loss ({unit}); ring: best")
    right.set(title="Gradient before clipping", xlabel="Step", ylabel="Norm", yscale="log")
    for axes in (left, middle, right):
        tidy(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    title_stand_in(figure, stand_in)
    return figure


def plot_embeddings(
    embeddings: Mapping[str, np.ndarray], target: np.ndarray, classes: Sequence[str], *, stand_in: str = ""
) -> Figure:
    """Draw each model's embeddings along their first two principal components, coloured by class.

    Parameters
    ----------
    embeddings : mapping of str to ndarray of shape (windows, dim)
        Embeddings by model.
    target : ndarray of shape (windows,)
        Class numbers, or values if ``classes`` is empty.
    classes : sequence of str
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    count = max(1, len(embeddings))
    figure, panels = plt.subplots(1, count, figsize=(4.4 * count + 0.8, 4.0), layout="constrained", squeeze=False)
    if not embeddings:
        panels[0][0].set_title("No model has embedded all windows yet")
    for axes, (model, values) in zip(panels[0], embeddings.items(), strict=False):
        places, shares = _components(np.asarray(values, float))
        if len(classes):
            for number, name in enumerate(classes):
                mine = np.asarray(target) == number
                mark, colour = _MARKS[number // len(SERIES) % len(_MARKS)], SERIES[number % len(SERIES)]
                axes.scatter(*places[mine, :2].T, s=16, alpha=0.7, color=colour, marker=mark, linewidths=0, label=name)
        else:
            found = axes.scatter(*places[:, :2].T, s=16, c=target, cmap="viridis", linewidths=0)
            figure.colorbar(found, ax=axes, label="Target")
        axes.set(title=model, xlabel=f"Component 1 ({shares[0]:.0%} of variance)")
        axes.set_ylabel(f"Component 2 ({shares[1]:.0%} of variance)")
        tidy(axes)
    if len(classes):
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    title_stand_in(figure, stand_in)
    return figure


def plot_path(times_s: np.ndarray, embeddings: np.ndarray, *, title: str = "", stand_in: str = "") -> Figure:
    """Draw a recording's path through a model's embeddings, and the similarity of each pair of its windows.

    Parameters
    ----------
    times_s : ndarray of shape (windows,)
        Centres of the windows, in s.
    embeddings : ndarray of shape (windows, dim)
    title : str
    stand_in : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    places, shares = _components(np.asarray(embeddings, float))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.8), layout="constrained", gridspec_kw={"width_ratios": [1.5, 1]}
    )
    for number, colour in zip(range(min(3, places.shape[1])), SERIES, strict=False):
        scaled = places[:, number] / max(places[:, number].std(), 1e-12)
        left.plot(
            times_s, scaled, color=colour, linewidth=1.0, label=f"{number + 1} ({shares[number]:.0%} of variance)"
        )
    left.set(xlabel="Time (s)", ylabel="Component (standard deviations)", title=title or "Components")
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    tidy(left)
    centred = embeddings - np.mean(embeddings, 0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    ends = (float(times_s[0]), float(times_s[-1]))
    drawn = right.imshow(unit @ unit.T, cmap="RdBu_r", vmin=-1, vmax=1, extent=(*ends, *ends), origin="lower")
    right.set(xlabel="Time (s)", ylabel="Time (s)", title="Similarity of two windows")
    figure.colorbar(drawn, ax=right, label="Cosine of centred embeddings")
    title_stand_in(figure, stand_in)
    return figure


def _published(axes: Any, published: Sequence[Any], what: str, chance: float) -> None:
    axes.axvline(chance, color=BASELINE, linestyle="--")
    for place, row in enumerate(published):
        axes.plot(row.balanced_accuracy, place, "D", color=_COLOURS[row.mode], markersize=7, markerfacecolor="none")
        axes.annotate(
            f"{row.balanced_accuracy:.2f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", size=9
        )
    axes.set_yticks(range(len(published)), [f"{row.model}, {row.mode}" for row in published], fontsize=9)
    axes.set_ylim(len(published) - 0.4, -0.6)
    axes.set_xlabel(f"Balanced accuracy (dashed: chance {chance:.2f})")
    axes.set_title(f"Published elsewhere, other data: not comparable\n{what}", loc="left", fontsize=9, color=SECOND)
    tidy(axes)


def _components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows' principal components, and each component's share of the variance."""
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return left * sizes, sizes**2 / max(float((sizes**2).sum()), 1e-12)
