"""Scores of a classifier on test subjects: beside its rivals, band powers with a linear model, and chance.

All are scored on the same windows and the same crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np

from nbkit.neuro.training.classification import WindowClassifier
from nbkit.neuro.training.held_out.values import BEST, LAST
from nbkit.neuro.training.power_ridge import powers_on_crops
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.scores.class_scores import MAIN, SCORES, class_intervals, class_scores
from nbkit.neuro.training.scores.pooled import balanced_accuracy_of, beside_pooled, pooled_interval, recall_sums
from nbkit.neuro.training.window_module import predict

_UNITS = {
    "balanced_accuracy": "share", "auc": "area", "kappa": "1", "weighted_f1": "1", "auprc": "area", "accuracy": "share",
}  # fmt: skip


@dataclass(frozen=True)
class HeldOutClasses:
    """Scores on test subjects, with the classes and probabilities behind them.

    Attributes
    ----------
    rows : list of dict
        Rows for a session's results. The balanced accuracy of the best checkpoint has all rivals, that of the last step
        those that were trained for as many steps.
    scores : dict of str to float
        Balanced accuracy by model, for a figure.
    intervals : dict of str to (low, high)
        Confidence interval of each score, jackknifed over subjects; empty for fewer than two subjects.
    target : array of shape (windows,)
        Class numbers.
    prediction : array of shape (windows, classes)
        Probabilities by the best checkpoint.
    subjects : array of shape (windows,)
        Subject of each window.
    classes : tuple of str
    """

    rows: list[dict[str, Any]]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    target: np.ndarray
    prediction: np.ndarray
    subjects: np.ndarray
    classes: tuple[str, ...]


def score_held_out_classes(
    name: str, best: WindowClassifier, module: WithRivals, data: lightning.LightningDataModule
) -> HeldOutClasses:
    """Score the best checkpoint, the last step, the rivals and a linear model on the test subjects.

    Parameters
    ----------
    name : str
        Begin of the scores' names.
    best : WindowClassifier
        The model at its best validation.
    module : WithRivals
        The model after its last step; it and its rivals had the same number of steps.
    data : WindowData
        With classes.

    Returns
    -------
    held_out : HeldOutClasses
    """
    prediction, target = (part.numpy() for part in predict(best, data.test_dataloader()))
    target, subjects = target.astype(int), data.test_dataset.subjects
    called = {rival: f"{module.words.get(rival, rival)}, last step" for rival in module.rivals}
    predictions = {
        BEST: prediction,
        LAST: predict(module, data.test_dataloader())[0].numpy(),
        **{words: predict(module.rivals[r], data.test_dataloader())[0].numpy() for r, words in called.items()},
        "LDA on band powers": lda_on_powers(data),
    }
    found = {model: class_scores(target, predicted) for model, predicted in predictions.items()}
    ranges = {model: class_intervals(target, predicted, subjects) for model, predicted in predictions.items()}
    people, of = np.unique(subjects, return_inverse=True)
    sums = {m: recall_sums(target, p.argmax(1), of, len(data.classes)) for m, p in predictions.items()}
    if len(people) > 1:
        for model, own in sums.items():
            ranges[model] |= {MAIN: pooled_interval(balanced_accuracy_of, own)}
    short = {LAST: "last", **{words: f"{r}_last" for r, words in called.items()}}
    short["LDA on band powers"] = "lda"
    baselines = _baselines(target, data.train_dataset.column("target").astype(int), len(data.classes))
    rows = []
    for score in SCORES:
        beside = dict(zip(("baseline", "baseline_is"), baselines[score], strict=True), unit=_UNITS[score])
        values = {f"{name}_{score}": found[BEST][score]}
        values |= {f"{name}_{score}_{short[model]}": found[model][score] for model in short}
        ends = zip(("low", "high"), ranges[BEST].get(score, ()), strict=False)  # none over one subject
        values |= {f"{name}_{score}_{end}": edge for end, edge in ends}
        rows += [{"name": key, "value": value, **beside} for key, value in values.items() if np.isfinite(value)]
    if len(people) > 1:
        by_name, over = {row["name"]: row for row in rows}, {"over": f"{len(people)} subjects"}
        rivals = {model: own for model, own in sums.items() if model not in (BEST, LAST)}
        by_name[f"{name}_{MAIN}"] |= {**over, **beside_pooled(balanced_accuracy_of, sums[BEST], rivals)}
        equal = {words: sums[words] for words in called.values()}
        by_name[f"{name}_{MAIN}_last"] |= {**over, **beside_pooled(balanced_accuracy_of, sums[LAST], equal)}
    scores = {model: values[MAIN] for model, values in found.items()}
    intervals = {model: ends[MAIN] for model, ends in ranges.items() if MAIN in ends}
    return HeldOutClasses(rows, scores, intervals, target, prediction, subjects, tuple(data.classes))


def lda_on_powers(data: Any) -> np.ndarray:
    """Return the probabilities of a linear discriminant analysis on log band powers, shape (windows, classes).

    Its covariance is shrunk (Ledoit and Wolf) and its classes are equally likely, as in the networks' loss.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = powers_on_crops(data)
    classes = len(data.classes)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
    model = make_pipeline(StandardScaler(), lda).fit(train, data.train_dataset.column("target").astype(int))
    return model.predict_proba(test)


def _baselines(target: np.ndarray, trained_on: np.ndarray, classes: int) -> dict[str, tuple[float, str]]:
    """Return the score of knowing nothing, and what it is, for each score."""
    there, always = len(np.unique(target)), np.bincount(trained_on, minlength=classes).argmax()
    majority = float((target == always).mean())
    return {
        "balanced_accuracy": (1 / there, "chance, and always the training subjects' commonest class"),
        "auc": (0.5, "chance"),
        "weighted_f1": (majority * 2 * majority / (majority + 1), "always the training subjects' commonest class"),
        "auprc": (1 / there, "chance, the share of each class"),
        "kappa": (0.0, "chance, and always one class"),
        "accuracy": (majority, "always the training subjects' commonest class"),
    }
