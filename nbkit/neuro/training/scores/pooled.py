"""Scores of all windows together, beside rivals: intervals over subjects and paired tests.

An error over the spread of all targets, or a mean recall, is no mean over subjects, so `paired` cannot compare it. Both
follow from sums that each subject adds to. An interval is the jackknife's: each subject is left out once. For a ratio
such as NRMSE it holds the truth more often than a bootstrap of few subjects (of 8: 94 to 96 % instead of 88 to 91 % in
simulations). For a test, two models are exchanged within subjects.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from nbkit.neuro.training.scores.paired import ALL_UP_TO, DRAWS, holm

Score = Callable[[np.ndarray], np.ndarray]
_AT_ONCE = 4_000_000  # numbers


def error_sums(target: np.ndarray, prediction: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return what `nrmse_of` needs of each subject, shape (subjects, 4): windows, targets, squares, squared errors.

    Parameters
    ----------
    target, prediction : array of shape (windows,)
    of : int array of shape (windows,)
        Number of each window's subject.
    """
    target, prediction = np.asarray(target, float), np.asarray(prediction, float)
    centred = target - target.mean()  # a variance of sums loses digits far from 0
    return np.stack(
        [np.bincount(of), np.bincount(of, centred), np.bincount(of, centred**2),
         np.bincount(of, (prediction - target) ** 2)], axis=1,
    )  # fmt: skip


def nrmse_of(sums: np.ndarray) -> np.ndarray:
    """Return the root mean squared error in standard deviations of the target, from sums of shape (..., 4)."""
    count, total, square, error = np.moveaxis(np.asarray(sums, float), -1, 0)
    variance = square / count - (total / count) ** 2
    return np.sqrt(error / count / np.where(variance > 1e-12, variance, np.nan))


def recall_sums(target: np.ndarray, predicted: np.ndarray, of: np.ndarray, classes: int) -> np.ndarray:
    """Return what `balanced_accuracy_of` needs of each subject, shape (subjects, 2 * classes): windows, and right ones.

    Parameters
    ----------
    target, predicted : int array of shape (windows,)
        Class numbers.
    of : int array of shape (windows,)
        Number of each window's subject.
    classes : int
    """
    seen = np.zeros((int(of.max()) + 1, 2 * classes))
    np.add.at(seen, (of, target), 1)
    np.add.at(seen, (of, classes + target), target == predicted)
    return seen


def balanced_accuracy_of(sums: np.ndarray) -> np.ndarray:
    """Return the mean recall of the classes that occur, from sums of shape (..., 2 * classes)."""
    seen, right = np.split(np.asarray(sums, float), 2, axis=-1)
    there = seen > 0
    return np.where(there, right / np.maximum(seen, 1), 0).sum(-1) / np.maximum(there.sum(-1), 1)


def pooled_interval(score: Score, *sums: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a score over subjects, or with two models that of their difference.

    Parameters
    ----------
    score : callable
        Of sums over subjects, such as `nrmse_of`.
    *sums : array of shape (subjects, numbers)
        One model's, or two.

    Returns
    -------
    low, high : float
        NaN for one subject. The ends of one score are values that it can have.
    """
    count = len(sums[0])
    if count < 2:
        return float("nan"), float("nan")
    ones = np.ones((1, count))
    found = [score(np.concatenate([ones - np.eye(count), ones]) @ one) for one in sums]
    *left_out, whole = found[0] if len(found) == 1 else found[0] - found[1]
    error = np.sqrt((count - 1) * np.mean(np.square(left_out - np.mean(left_out))))
    half = float(student_t.ppf(0.975, count - 1) * error)
    low, high = float(whole) - half, float(whole) + half
    return (low, high) if len(sums) > 1 else (max(low, 0.0), min(high, _HIGHEST.get(score, np.inf)))


_HIGHEST = {balanced_accuracy_of: 1.0}


def exchange_p(score: Score, ours: np.ndarray, theirs: np.ndarray, draws: int = DRAWS, seed: int = 2025) -> float:
    """Return the two-sided p value of a difference when both models may be exchanged in each subject; NaN for one.

    Parameters
    ----------
    score : callable
        Of sums over subjects.
    ours, theirs : array of shape (subjects, numbers)
    draws, seed : int
        Random exchanges where there are more than 12 subjects; of fewer, all are tried.
    """
    count = len(ours)
    if count < 2:
        return float("nan")
    if count <= ALL_UP_TO:
        swapped = np.array(list(itertools.product((0.0, 1.0), repeat=count)))
    else:
        swapped = (np.random.default_rng(seed + 1).random((draws, count)) < 0.5).astype(float)
    gap, step = theirs - ours, max(1, _AT_ONCE // max(1, ours.shape[1]))
    found = []
    for begin in range(0, len(swapped), step):
        moved = swapped[begin : begin + step] @ gap
        found.append(np.abs(score(ours.sum(0) + moved) - score(theirs.sum(0) - moved)))
    seen = np.concatenate(found)
    hits = int((seen >= abs(float(score(ours.sum(0)) - score(theirs.sum(0)))) - 1e-12).sum())
    return hits / len(seen) if count <= ALL_UP_TO else (1 + hits) / (1 + len(seen))


def beside_pooled(score: Score, ours: np.ndarray, rivals: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a score's interval and its rivals, as a session's results take them; see `paired.beside`.

    Parameters
    ----------
    score : callable
        Of sums over subjects.
    ours : array of shape (subjects, numbers)
        The sums of each subject.
    rivals : mapping of str to array of shape (subjects, numbers)
        Those of the other models on the same windows.
    """
    value, found = float(score(ours.sum(0))), []
    for name, theirs in rivals.items():
        own, ends = pooled_interval(score, theirs), pooled_interval(score, ours, theirs)
        rival = float(score(theirs.sum(0)))
        found.append({
            "name": name, "value": rival, "low": own[0], "high": own[1], "difference": value - rival,
            "difference_low": ends[0], "difference_high": ends[1], "p": exchange_p(score, ours, theirs),
        })  # fmt: skip
    for one, p in zip(found, holm([one["p"] for one in found]), strict=True):
        one["p"] = p
    low, high = pooled_interval(score, ours)
    return {"low": low, "high": high, "rivals": found}
