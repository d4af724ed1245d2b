"""Scores of predicted classes, and their intervals over subjects.

Classes that do not occur in the scored windows have no score of their own; they are left out of the means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAIN = "balanced_accuracy"
SCORES = ("balanced_accuracy", "auc", "kappa", "accuracy")


def class_scores(target: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return balanced accuracy, AUC, Cohen's kappa and accuracy of all windows together.

    The balanced accuracy is the mean recall of the classes that occur. The AUC is that of each class against the
    others, averaged over the classes that occur; it is NaN where there is only one.

    Parameters
    ----------
    target : int array of shape (windows,)
        Class numbers.
    probabilities : array of shape (windows, classes)

    Raises
    ------
    ValueError
        If the numbers of windows differ, there is none, or a probability is not finite.
    """
    target, probabilities = _pair(target, probabilities)
    once = np.zeros(len(target), int)
    found = _from_confusions(_confusions(target, probabilities, once, 1))
    return {name: float(np.ravel(value)[0]) for name, value in (found | {"auc": _auc(target, probabilities)}).items()}


def class_intervals(
    target: np.ndarray,
    probabilities: np.ndarray,
    subjects: Sequence[str],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 2025,
) -> dict[str, tuple[float, float]]:
    """Compute a bootstrap confidence interval of each of `class_scores` by resampling subjects.

    Returns
    -------
    intervals : dict of str to (low, high)
        Empty with fewer than two subjects.
    """
    target, probabilities = _pair(target, probabilities)
    names, of = np.unique(np.asarray(subjects), return_inverse=True)
    if len(names) < 2:
        return {}
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    times = np.stack([np.bincount(pick, minlength=len(names)) for pick in picks]).astype(float)
    confusions = np.einsum("ds,sij->dij", times, _confusions(target, probabilities, of, len(names)))
    drawn = _from_confusions(confusions) | {"auc": _drawn_auc(target, probabilities, of, times)}
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    known = {name: values[np.isfinite(values)] for name, values in drawn.items()}
    return {name: tuple(np.quantile(values, ends).tolist()) for name, values in known.items() if len(values)}


def _confusions(target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Return the counts of (true, predicted) of each group, shape (groups, classes, classes)."""
    classes = probabilities.shape[1]
    cells = (of * classes + target) * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=groups * classes**2).reshape(groups, classes, classes).astype(float)


def _from_confusions(counts: np.ndarray) -> dict[str, np.ndarray]:
    rows, total = counts.sum(2), counts.sum((1, 2))
    right = np.diagonal(counts, axis1=1, axis2=2)
    recall = np.where(rows > 0, right / np.maximum(rows, 1), np.nan)
    agreed, by_chance = right.sum(1) / total, (rows * counts.sum(1)).sum(1) / total**2
    kappa = np.where(by_chance < 1, (agreed - by_chance) / np.maximum(1 - by_chance, 1e-12), np.nan)
    return {"balanced_accuracy": np.nanmean(recall, axis=1), "kappa": kappa, "accuracy": agreed}


def _auc(target: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return _drawn_auc(target, probabilities, np.zeros(len(target), int), np.ones((1, 1)))


def _drawn_auc(target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the AUC of each draw, shape (draws,), from the pairs that each two subjects win (Mann and Whitney)."""
    classes = probabilities.shape[1]
    each = np.full((classes, len(times)), np.nan)
    for number in range(classes):
        positive, score = target == number, probabilities[:, number]
        ours, others = (np.bincount(of[side], minlength=times.shape[1]) for side in (positive, ~positive))
        wins = np.zeros((times.shape[1], times.shape[1]))
        for subject in np.flatnonzero(others):
            beaten = np.sort(score[~positive & (of == subject)])
            below = (np.searchsorted(beaten, score[positive], end) for end in ("left", "right"))
            wins[:, subject] = np.bincount(of[positive], sum(below) / 2, minlength=times.shape[1])
        pairs = (times @ ours) * (times @ others)
        won = np.einsum("ds,st,dt->d", times, wins, times, optimize=True)
        each[number] = np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
    known = np.isfinite(each)
    return np.where(known.any(0), np.where(known, each, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def _pair(target: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    target, probabilities = np.ravel(np.asarray(target)).astype(int), np.asarray(probabilities, float)
    if not len(target) or probabilities.shape[:1] != target.shape or not np.isfinite(probabilities).all():
        raise ValueError(
            f"There are {len(target)} true classes and probabilities of shape {probabilities.shape}, "
            f"{int((~np.isfinite(probabilities)).sum())} of them not finite; give a finite row for each window."
        )
    return target, probabilities
