"""Scores of predicted classes, and their intervals over subjects.

Classes that do not occur in the scored windows have no score of their own; they are left out of the means. The areas
compare windows by their probabilities; windows that different models predicted (the folds of a cross-validation) are
never compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAIN = "balanced_accuracy"
SCORES = ("balanced_accuracy", "auc", "kappa", "weighted_f1", "auprc", "accuracy")
_AT_ONCE = 2_000_000  # numbers of an array of weights


def class_scores(
    target: np.ndarray, probabilities: np.ndarray, models: Sequence[object] | None = None
) -> dict[str, float]:
    """Return the `SCORES` of all windows together.

    The balanced accuracy is the mean recall of the classes that occur. AUC and AUPRC (average precision) are those of
    each class against the others, averaged over the classes that occur; they are NaN where there is only one.

    Parameters
    ----------
    target : int array of shape (windows,)
        Class numbers.
    probabilities : array of shape (windows, classes)
    models : sequence of shape (windows,), optional
        The model (the fold) that predicted each window.

    Raises
    ------
    ValueError
        If the numbers of windows differ, there is none, or a probability is not finite.
    """
    target, probabilities = _pair(target, probabilities)
    once, whole = np.zeros(len(target), int), np.ones((1, 1))
    by = once if models is None else np.unique(np.asarray(models), return_inverse=True)[1]
    found = _from_confusions(_confusions(target, probabilities, once, 1))
    # the pairs of two windows are counted between the models' own windows, as if each model were a subject
    found["auc"] = _drawn_auc(target, probabilities, by, np.ones((1, by.max() + 1)), np.arange(by.max() + 1))
    found["auprc"] = _drawn_auprc(target, probabilities, once, whole, by)
    return {name: float(np.ravel(found[name])[0]) for name in SCORES}


def class_intervals(
    target: np.ndarray,
    probabilities: np.ndarray,
    subjects: Sequence[str],
    models: Sequence[object] | None = None,
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
    times = subject_draws(len(names), draws, seed)
    drawn = scores_of_draws(target, probabilities, of, times, models)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    known = {name: values[np.isfinite(values)] for name, values in drawn.items()}
    return {name: tuple(np.quantile(values, ends).tolist()) for name, values in known.items() if len(values)}


def subject_draws(subjects: int, draws: int, seed: int) -> np.ndarray:
    """Return how often each subject is drawn in each bootstrap sample, shape (draws, subjects)."""
    picks = np.random.default_rng(seed).integers(subjects, size=(draws, subjects))
    return np.stack([np.bincount(pick, minlength=subjects) for pick in picks]).astype(float)


def scores_of_draws(
    target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, times: np.ndarray, models: Sequence | None = None
) -> dict[str, np.ndarray]:
    """Return each of `class_scores` for samples of subjects, shape (draws,).

    Parameters
    ----------
    target : int array of shape (windows,)
    probabilities : array of shape (windows, classes)
    of : int array of shape (windows,)
        Number of each window's subject.
    times : array of shape (draws, subjects)
        How often each subject is in a sample.
    models : sequence of shape (windows,), optional
        The model that predicted each window.
    """
    by = np.zeros(len(target), int) if models is None else np.unique(np.asarray(models), return_inverse=True)[1]
    # a subject that several models predicted counts as one subject for each of them
    pairs, part = np.unique(np.stack([of, by], 1), axis=0, return_inverse=True)
    part, counts = part.ravel(), _confusions(target, probabilities, of, times.shape[1])
    found = _from_confusions(np.einsum("ds,sij->dij", times, counts))
    found["auc"] = _drawn_auc(target, probabilities, part, times[:, pairs[:, 0]], pairs[:, 1])
    found["auprc"] = _drawn_auprc(target, probabilities, of, times, by)
    return {name: found[name] for name in SCORES}


def _confusions(target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Return the counts of (true, predicted) of each group, shape (groups, classes, classes)."""
    classes = probabilities.shape[1]
    cells = (of * classes + target) * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=groups * classes**2).reshape(groups, classes, classes).astype(float)


def _from_confusions(counts: np.ndarray) -> dict[str, np.ndarray]:
    rows, columns, total = counts.sum(2), counts.sum(1), counts.sum((1, 2))
    right = np.diagonal(counts, axis1=1, axis2=2)
    recall = np.where(rows > 0, right / np.maximum(rows, 1), np.nan)
    agreed, by_chance = right.sum(1) / total, (rows * columns).sum(1) / total**2
    kappa = np.where(by_chance < 1, (agreed - by_chance) / np.maximum(1 - by_chance, 1e-12), np.nan)
    f1 = (rows * 2 * right / np.maximum(rows + columns, 1)).sum(1) / total
    return {"balanced_accuracy": np.nanmean(recall, axis=1), "kappa": kappa, "weighted_f1": f1, "accuracy": agreed}


def _drawn_auc(
    target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, times: np.ndarray, models: np.ndarray
) -> np.ndarray:
    """Return the AUC of each draw, shape (draws,), from the pairs that each two subjects win (Mann and Whitney).

    Only pairs of subjects with the same of the ``models``, shape (subjects,), count.
    """
    classes, same = probabilities.shape[1], (models[:, None] == models[None, :]).astype(float)
    each = np.full((classes, len(times)), np.nan)
    for number in range(classes):
        positive, score = target == number, probabilities[:, number]
        ours, others = (np.bincount(of[side], minlength=times.shape[1]) for side in (positive, ~positive))
        wins = np.zeros((times.shape[1], times.shape[1]))
        for subject in np.flatnonzero(others):
            beaten = np.sort(score[~positive & (of == subject)])
            below = (np.searchsorted(beaten, score[positive], end) for end in ("left", "right"))
            wins[:, subject] = np.bincount(of[positive], sum(below) / 2, minlength=times.shape[1])
        pairs = (((times * ours) @ same) * (times * others)).sum(1)
        won = ((times @ (wins * same)) * times).sum(1)
        each[number] = np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
    return _mean_known(each)


def _drawn_auprc(
    target: np.ndarray, probabilities: np.ndarray, of: np.ndarray, times: np.ndarray, models: np.ndarray
) -> np.ndarray:
    """Return the average precision of each draw, shape (draws,): the mean over the models that have both sides."""
    classes, step = probabilities.shape[1], max(1, _AT_ONCE // max(1, len(target)))
    out = np.full((classes, len(times)), np.nan)
    for number in range(classes):
        sums, there = np.zeros(len(times)), np.zeros(len(times))
        for model in np.unique(models):
            rows = np.flatnonzero(models == model)
            rows = rows[np.argsort(-probabilities[rows, number], kind="stable")]
            positive, score = target[rows] == number, probabilities[rows, number]
            last = np.append(np.flatnonzero(np.diff(score)), len(rows) - 1)  # equal scores are one threshold
            for begin in range(0, len(times), step):
                weights = times[begin : begin + step][:, of[rows]]
                found, all_seen = np.cumsum(weights * positive, 1)[:, last], np.cumsum(weights, 1)[:, last]
                total = found[:, -1:]
                steps = np.diff(found, axis=1, prepend=0.0) / np.maximum(total, 1e-12)
                value = (steps * found / np.maximum(all_seen, 1e-12)).sum(1)
                known = (total[:, 0] > 0) & (total[:, 0] < all_seen[:, -1])
                sums[begin : begin + step] += np.where(known, value, 0.0)
                there[begin : begin + step] += known
        out[number] = np.where(there > 0, sums / np.maximum(there, 1), np.nan)
    return _mean_known(out)


def _mean_known(each: np.ndarray) -> np.ndarray:
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
