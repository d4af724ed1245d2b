"""Figures of finetunings: predictions beside true values or classes, scores beside baselines and published results.

NRMSE is always drawn with a line at 1.0, the score of a constant prediction and of the median published result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.figures import BASELINE, FIRST, SECOND, SERIES, TRUTH, tidy, title_stand_in
from nbkit.neuro.challenge.metrics import CONSTANT, PUBLISHED, nrmse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TARGETS = {1: ("Response time", "s"), 2: ("Externalizing factor", "")}
_FEW = 8  # largest number of subjects that colours can distinguish


def plot_finetuning(history: Sequence[Mapping[str, Any]], *, classes: int = 0, stand_in: str = "") -> Figure:
    """Draw training and validation of a finetuning: from pretrained weights, from random ones, and another network.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows with ``step`` and some of train_loss and val_nrmse (val_balanced_accuracy for classes), and of
        these names with the endings ``_scratch`` and ``_signal_jepa``.
    classes : int
        Number of classes to tell apart; 0 for a target of numbers.
    stand_in : str
        Description of stand-in data, written above the figure.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    scored = "val_balanced_accuracy" if classes else "val_nrmse"
    arms = (("pretrained", "", FIRST), ("from scratch", "_scratch", SECOND), ("SignalJEPA", "_signal_jepa", SERIES[2]))
    for name, ending, colour in arms:
        for axes, metric in ((left, "train_loss"), (right, scored)):
            rows = [(row["step"], row[metric + ending]) for row in history if row.get(metric + ending) is not None]
            if rows:
                axes.plot(*zip(*rows, strict=True), color=colour, marker="o", markersize=3, linewidth=1.2, label=name)
    if classes:
        left.axhline(np.log(classes), color=BASELINE, linestyle="--")
        right.axhline(1 / classes, color=BASELINE, linestyle="--", label="chance")
        left.set(title="Training", xlabel="Step", ylabel="Cross-entropy, balanced (nat)")
        right.set(title="Validation, other subjects", xlabel="Step", ylabel="Balanced accuracy (share)")
    else:
        right.axhline(CONSTANT, color=BASELINE, linestyle="--", label="constant (1.0)")
        left.set(title="Training", xlabel="Step", ylabel="Squared error (variances of the target)")
        right.set(title="Validation, other subjects", xlabel="Step", ylabel="NRMSE (standard deviations)")
    for axes in (left, right):
        tidy(axes)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9, ncols=4)
    title_stand_in(figure, stand_in)
    return figure


def plot_predictions(
    target: Sequence[float],
    prediction: Sequence[float],
    subjects: Sequence[str],
    *,
    train_mean: float,
    what: str = "Response time",
    unit: str = "s",
    title: str = "",
) -> Figure:
    """Draw predicted against true targets, with a point for each window.

    Parameters
    ----------
    target, prediction : array of shape (windows,)
    subjects : sequence of str
        Subject of each window; up to 8 subjects have different colours.
    train_mean : float
        Mean of the training targets, which a constant predicts.
    what, unit : str
        Name and unit of the target.
    title : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    target, prediction = np.ravel(np.asarray(target, float)), np.ravel(np.asarray(prediction, float))
    subjects = np.asarray(subjects)
    names = sorted(set(subjects.tolist()))
    figure, axes = plt.subplots(figsize=(6.4, 6), layout="constrained")
    ends = np.array([min(target.min(), prediction.min()), max(target.max(), prediction.max())])
    ends += np.array([-0.05, 0.05]) * (ends[1] - ends[0])
    axes.plot(ends, ends, color=TRUTH, linewidth=1.0, label="prediction = truth")
    score = nrmse(target, np.full(len(target), train_mean))
    axes.axhline(train_mean, color=BASELINE, linestyle="--", label=f"training mean (NRMSE {score:.3f})")
    score = nrmse(target, prediction)
    if len(names) <= _FEW:
        for name, colour in zip(names, SERIES * 2, strict=False):
            mine = subjects == name
            axes.scatter(target[mine], prediction[mine], s=16, alpha=0.7, color=colour, linewidths=0, label=name)
    else:
        axes.scatter(target, prediction, s=12, alpha=0.5, color=FIRST, linewidths=0, label=f"{len(names)} subjects")
    unit = f" ({unit})" if unit else ""
    axes.set(xlim=ends, ylim=ends, xlabel=f"{what}{unit}", ylabel=f"Predicted {what[:1].lower()}{what[1:]}{unit}")
    axes.set_aspect("equal")
    axes.set_title(f"{title}\n" * bool(title) + f"{len(target)} windows, NRMSE {score:.3f}", fontsize=11, loc="left")
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_agreement(own: Mapping[int, Sequence[float]], alone: Mapping[int, Sequence[float]]) -> Figure:
    """Draw the predictions of a submission zip against those of its checkpoints, with a panel for each challenge.

    Parameters
    ----------
    own, alone : mapping of {1, 2} to array of shape (windows,)
        The checkpoints' predictions and the zip's.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    for axes, number, what in zip(panels, (1, 2), ("response time (s)", "externalizing factor"), strict=True):
        mine, its = np.asarray(own[number], float), np.asarray(alone[number], float)
        ends = np.array([min(mine.min(), its.min()), max(mine.max(), its.max())])
        axes.plot(ends, ends, color=TRUTH, linewidth=1.0, label="equal predictions")
        axes.scatter(mine, its, s=16, alpha=0.6, color=FIRST, linewidths=0, label=f"{len(mine)} windows")
        axes.set(xlabel=f"Checkpoint: {what}", ylabel=f"Zip alone: {what}")
        axes.set_title(f"Challenge {number}: {np.abs(mine - its).max():.1e} apart at most", fontsize=11, loc="left")
        tidy(axes)
        axes.legend(frameon=False, fontsize=9)
    return figure


def plot_submission(
    scores: Sequence[float], intervals: Mapping[int, tuple[float, float]] | None = None, *, note: str = ""
) -> Figure:
    """Draw a zip's scores in both challenges and overall, beside the constant and published results.

    Parameters
    ----------
    scores : (challenge 1, challenge 2, overall)
    intervals : mapping of {1, 2} to (low, high), optional
    note : str
        What the scores rest on.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    rows = ("challenge1", "challenge2", "overall")
    figure, axes = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    for place, (name, score) in enumerate(zip(rows, scores, strict=True)):
        if place + 1 in (intervals or {}):
            axes.plot(intervals[place + 1], [place, place], color=FIRST, linewidth=6, alpha=0.25, solid_capstyle="butt")
        axes.plot(score, place, "o", color=FIRST, markersize=9, label="this zip" if place == 0 else None)
        axes.annotate(f"{score:.5f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        for published, colour in zip(PUBLISHED, SERIES[1:], strict=False):
            value = getattr(published, name)
            if value is not None:
                once = not any(text.get_label() == published.what for text in axes.lines)
                axes.plot(
                    value, place + 0.22, "D", color=colour, markersize=5, label=published.what if once else None
                )  # fmt: skip
    axes.axvline(CONSTANT, color=BASELINE, linestyle="--", label="constant: the scored targets' mean")
    points = [*scores, CONSTANT, *(v for p in PUBLISHED for v in (p.challenge1, p.challenge2, p.overall) if v)]
    axes.set_xlim(min(points) - 0.05, max(points) + 0.1)  # with few subjects, intervals are far wider than this range
    axes.set_yticks(range(3), ("Challenge 1", "Challenge 2", "Overall"))
    axes.set_ylim(2.6, -0.5)
    axes.set_xlabel("NRMSE (standard deviations of the target; lower is better)")
    tidy(axes)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=4)
    if note:
        figure.suptitle(note, fontsize=9, color=SECOND, wrap=True)
    return figure


def plot_scores(
    scores: Mapping[str, float],
    challenge: int | None,
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    note: str = "",
    title: str = "",
) -> Figure:
    """Draw NRMSE of several models beside the constant and the published results of a challenge.

    Parameters
    ----------
    scores : mapping of str to float
        NRMSE by model.
    challenge : {1, 2, None}
        None for another target, which has no published results.
    intervals : mapping of str to (low, high), optional
        Confidence intervals of some of the scores.
    note : str
        Basis of the scores, such as stand-in data, whose scores cannot be compared with published ones.
    title : str
        By default the challenge.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    published = {p.what: getattr(p, f"challenge{challenge}") for p in PUBLISHED if challenge}
    rows = [(name, value, FIRST) for name, value in scores.items()]
    rows += [(f"{name}, published", value, SECOND) for name, value in published.items() if value is not None]
    figure, axes = plt.subplots(figsize=(8.5, 1.4 + 0.38 * len(rows)), layout="constrained")
    for place, (name, value, colour) in enumerate(rows):
        axes.plot([CONSTANT, value], [place, place], color=colour, linewidth=1.2, alpha=0.5)
        if name in (intervals or {}):
            axes.plot(intervals[name], [place, place], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(value, place, "o", color=colour, markersize=6)
        axes.annotate(f"{value:.3f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.axvline(CONSTANT, color=BASELINE, linestyle="--", label="constant: the scored targets' mean (1.0)")
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("NRMSE (standard deviations of the target; lower is better)")
    axes.set_title(title or f"Challenge {challenge}", loc="left", fontsize=11)
    tidy(axes)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    if note:
        figure.suptitle(note, fontsize=9, color=SECOND, wrap=True)
    return figure


def plot_confusion(
    target: Sequence[int], probabilities: np.ndarray, classes: Sequence[str], *, title: str = "", note: str = ""
) -> Figure:
    """Draw how the classes of windows are told apart: the share of each true class that is taken for each class.

    Parameters
    ----------
    target : int array of shape (windows,)
    probabilities : array of shape (windows, classes)
    classes : sequence of str
    title, note : str

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    target, guessed = np.asarray(target, int), np.asarray(probabilities).argmax(1)
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (target, guessed), 1)
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    size = 3.2 + 0.7 * min(len(classes), 12)
    figure, axes = plt.subplots(figsize=(size + 1.2, size), layout="constrained")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape) if len(classes) <= 12 else ():
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=9, color=colour)
    names = [f"{name} ({int(count)})" for name, count in zip(classes, total[:, 0], strict=True)]
    axes.set_yticks(range(len(classes)), names, fontsize=9)
    long = len(classes) > 4 or max(map(len, classes)) > 8
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(len(classes)), classes, fontsize=9, **turned)
    axes.set(xlabel="Predicted class", ylabel="True class (windows)")
    balanced = np.diag(shares)[total[:, 0] > 0].mean()
    axes.set_title(f"{title}\n" * bool(title) + f"balanced accuracy {balanced:.3f}", fontsize=11, loc="left")
    figure.colorbar(image, ax=axes, label="Share of the true class", shrink=0.8)
    title_stand_in(figure, note)
    return figure


def plot_class_scores(
    scores: Mapping[str, float],
    *,
    chance: float,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw the balanced accuracy of several models beside chance.

    Parameters
    ----------
    scores : mapping of str to float
        Balanced accuracy by model.
    chance : float
        Score of knowing nothing.
    intervals : mapping of str to (low, high), optional
    title : str
    note : str
        Basis of the scores, such as stand-in data.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.5, 1.8 + 0.38 * len(scores)), layout="constrained")
    for place, (name, value) in enumerate(scores.items()):
        axes.plot([chance, value], [place, place], color=FIRST, linewidth=1.2, alpha=0.5)
        if name in (intervals or {}):
            axes.plot(intervals[name], [place, place], color=FIRST, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(value, place, "o", color=FIRST, markersize=6)
        axes.annotate(f"{value:.3f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.axvline(chance, color=BASELINE, linestyle="--", label=f"chance, and always one class ({chance:.2f})")
    axes.set_yticks(range(len(scores)), list(scores), fontsize=9)
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlabel("Balanced accuracy (share; higher is better)")
    axes.set_title(title, loc="left", fontsize=11)
    tidy(axes)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    title_stand_in(figure, note)
    return figure


def draw_curves(history: Sequence[Mapping[str, Any]], data: Any) -> Figure:
    """Draw the training and validation of a finetuning and its rivals."""
    return plot_finetuning(history, classes=len(data.classes), stand_in=data.describe())


def draw_predictions(found: Any, challenge: int, data: Any) -> Figure:
    """Draw the predictions for the test subjects: predicted against true numbers, or how classes are told apart.

    ``found`` is what `score_finetuned` returns.
    """
    if data.classes:
        words = {"title": f"{data.target}: test subjects", "note": data.describe()}
        return plot_confusion(found.target, found.prediction, found.classes, **words)
    what, unit = (data.target, "") if data.target else _TARGETS[challenge]
    words = {"what": what, "unit": unit, "train_mean": data.target_scale()[0], "title": "Test subjects"}
    return plot_predictions(found.target, found.prediction, found.subjects, **words)


def draw_scores(found: Any, challenge: int, data: Any) -> Figure:
    """Draw the scores of the model, its rivals and the baselines on the test subjects."""
    if data.classes:
        chance = next(row["baseline"] for row in found.rows if row["name"].endswith("balanced_accuracy"))
        said = f"{data.target} ({', '.join(found.classes)}), {len(set(found.subjects))} test subjects"
        return plot_class_scores(
            found.scores, chance=chance, intervals=found.intervals, title=said, note=data.describe()
        )  # fmt: skip
    if data.target:
        return plot_scores(found.scores, None, intervals=found.intervals, note=data.describe(), title=data.target)
    note = f"{data.describe()}; published: the challenge's own test set"
    return plot_scores(found.scores, challenge, intervals=found.intervals, note=note)
