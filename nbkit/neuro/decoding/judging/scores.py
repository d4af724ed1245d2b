"""Scores of a fold, each with its trivial score.

A score means nothing without its chance level or the score of a trivial guess, so both are always reported together.
Like a model, the trivial guess uses the training side alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkit.neuro.training.scores.class_scores import SCORES, class_scores

MAIN = {"classification": "balanced_accuracy", "regression": "r2"}
UNITS = {
    "balanced_accuracy": "share", "auc": "area", "kappa": "1", "weighted_f1": "1", "auprc": "area", "accuracy": "share",
    "r2": "share of variance", "rmse": "target's unit", "r": "1",
}  # fmt: skip
_COMMONEST = "always the training side's commonest class"
TRIVIAL_IS = {
    "balanced_accuracy": "chance", "auc": "chance", "kappa": "chance", "weighted_f1": _COMMONEST,
    "auprc": "chance, the mean share of a class", "accuracy": _COMMONEST, "r": "chance",
    "r2": "the training side's mean", "rmse": "the training side's mean",
}  # fmt: skip


def score_fold(kind: str, target: np.ndarray, predicted: np.ndarray, trained_on: np.ndarray) -> dict[str, Any]:
    """Return the scores of predictions on a test side, with their trivial scores.

    Parameters
    ----------
    kind : {"classification", "regression"}
    target : ndarray of shape (windows,)
        Class numbers, or values.
    predicted : ndarray of shape (windows, classes) or (windows,)
        Probabilities, or values.
    trained_on : ndarray of shape (windows,)
        Targets of the training side.

    Returns
    -------
    scores : dict
        The scores of `class_scores`, or ``r2``, ``rmse`` and ``r``; and the trivial score of each under
        ``<name>_trivial``.

    Raises
    ------
    ValueError
        If predictions are not finite, or their number is not the number of windows.
    """
    if len(predicted) != len(target) or not np.isfinite(predicted).all():
        raise ValueError(
            f"Got {len(predicted)} predictions for {len(target)} windows, with {int((~np.isfinite(predicted)).sum())} "
            "of their values not finite. Pass one finite prediction per window; see the training's diagnostics."
        )
    if kind == "classification":
        found, trivial = class_scores(target, predicted), trivial_scores(target, trained_on, predicted.shape[1])
        return _together({name: (found[name], trivial[name]) for name in SCORES})
    errors, trivial_errors = target - predicted, target - np.mean(trained_on)
    spread = float(np.sum((target - target.mean()) ** 2))
    moves = float(np.std(predicted)) > 0
    return _together({
        "r2": (1 - np.sum(errors**2) / spread, 1 - np.sum(trivial_errors**2) / spread),
        "rmse": (np.sqrt(np.mean(errors**2)), np.sqrt(np.mean(trivial_errors**2))),
        "r": (np.corrcoef(target, predicted)[0, 1] if moves else 0.0, 0.0),
    })  # fmt: skip


def trivial_scores(target: np.ndarray, trained_on: np.ndarray, classes: int) -> dict[str, float]:
    """Return what each of `class_scores` is without knowing anything about a window, see ``TRIVIAL_IS``."""
    always = int(np.bincount(np.asarray(trained_on, int), minlength=classes).argmax())
    share = float((np.asarray(target, int) == always).mean())
    return {
        "balanced_accuracy": 1 / classes, "auc": 0.5, "kappa": 0.0, "weighted_f1": share * 2 * share / (1 + share),
        "auprc": 1 / len(np.unique(target)), "accuracy": share,
    }  # fmt: skip


def score_names(kind: str) -> tuple[str, ...]:
    """Return the names of the scores of a kind of task, with the main score first."""
    return SCORES if kind == "classification" else ("r2", "rmse", "r")


def _together(pairs: dict[str, tuple[float, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (value, trivial) in pairs.items():
        found[name], found[f"{name}_trivial"] = float(value), float(trivial)
    return found
