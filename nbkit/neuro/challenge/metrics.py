"""Scores of the EEG Challenge 2025.

`nrmse` is the challenge's score: the root mean squared error over all windows, divided by the population standard
deviation of the targets. Predicting the mean of the targets scores exactly 1.0, which is about the median of the
published results. Every score is therefore shown next to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONSTANT = 1.0  # score of predicting the mean of the scored targets
WEIGHTS = (0.3, 0.7)  # of challenges 1 and 2


@dataclass(frozen=True)
class PublishedScore:
    """A published result of the challenge.

    Parameters
    ----------
    what : str
        Team or rank.
    where : str
        Source of the numbers.
    challenge1, challenge2, overall : float or None
        NRMSE; None if not known.
    """

    what: str
    where: str
    challenge1: float | None = None
    challenge2: float | None = None
    overall: float | None = None


_BOARD = "final phase, 183 teams, Codabench results in eeg2025.github.io"
PUBLISHED = (
    PublishedScore("winner (MBZUAI)", _BOARD, 0.91394, 0.98519, 0.96381),
    PublishedScore("best challenge 1 (KUL)", _BOARD, challenge1=0.88668),
    PublishedScore("best challenge 2 (JLShen)", _BOARD, challenge2=0.97843),
    PublishedScore("median", _BOARD, 0.99936, 1.0078, 1.0036),
    PublishedScore("cerebro", "scores returned for its own submission", 0.96172, 1.04048, 1.01685),
)


def nrmse(target: Sequence[float], prediction: Sequence[float]) -> float:
    """Compute the root mean squared error in standard deviations of the target.

    Parameters
    ----------
    target, prediction : array of shape (windows,) or (windows, 1)

    Raises
    ------
    ValueError
        If their lengths differ, a value is NaN or infinite, or the target is constant.
    """
    target, prediction = _pair(target, prediction)
    spread = target.std()  # population standard deviation, as in the challenge's scorer
    if spread == 0:
        raise ValueError(
            f"All {len(target)} targets are {target[0]:g}, so the error has no scale. Score windows of several "
            "subjects (challenge 2) or trials (challenge 1) together."
        )
    return float(np.sqrt(np.mean((target - prediction) ** 2)) / spread)


def overall(challenge1: float, challenge2: float) -> float:
    """Return the overall score, 0.3 and 0.7 of the two challenges' scores, rounded to 5 digits as in their scorer."""
    return round(WEIGHTS[0] * challenge1 + WEIGHTS[1] * challenge2, 5)


def nrmse_interval(
    target: Sequence[float],
    prediction: Sequence[float],
    subjects: Sequence[str],
    *,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 2025,
) -> tuple[float, float]:
    """Compute a bootstrap confidence interval of `nrmse` by resampling subjects.

    Windows of one subject are not independent, so resampling windows would give an interval that is too narrow.

    Parameters
    ----------
    target, prediction : array of shape (windows,)
    subjects : sequence of str
        Subject of each window.
    confidence : float
        Coverage of the interval, between 0 and 1.
    draws, seed : int
        Number of bootstrap samples, and seed of the random numbers.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If there are fewer than two subjects, or not one subject per window.
    """
    target, prediction = _pair(target, prediction)
    names, of = np.unique(np.asarray(subjects), return_inverse=True)
    if len(of) != len(target) or len(names) < 2:
        raise ValueError(
            f"There are {len(of)} names of {len(names)} subjects for {len(target)} windows: an interval over subjects "
            "needs one name per window and at least two subjects."
        )
    # the sums of each subject are enough to score any bootstrap sample
    count = np.bincount(of).astype(float)
    total, square = np.bincount(of, target), np.bincount(of, target**2)
    error = np.bincount(of, (target - prediction) ** 2)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    n = count[picks].sum(1)
    variance = square[picks].sum(1) / n - (total[picks].sum(1) / n) ** 2
    scores = np.sqrt(error[picks].sum(1) / n / np.where(variance > 1e-12, variance, np.nan))
    low, high = np.nanquantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def score_rows(
    name: str,
    target: Sequence[float],
    prediction: Sequence[float],
    train_mean: float,
    *,
    others: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the result rows of one challenge: the score of the model and of other models, next to a constant.

    Parameters
    ----------
    name : str
        Name of the score, such as ``challenge1_test_nrmse``.
    target, prediction : array of shape (windows,)
    train_mean : float
        Mean of the training targets, predicted by the constant baseline. It may score worse than 1.0 on other subjects.
    others : dict of str to float, optional
        NRMSE of other models on the same windows, by name, such as ``ridge``.

    Returns
    -------
    rows : list of dict
        Keys name, value, unit, baseline, baseline_is. The first row, that of the model, also has anchor and anchor_is
        if its name begins with a challenge.
    """
    constant = nrmse(target, np.full(len(np.ravel(target)), train_mean))
    said = f"constant, the training mean ({CONSTANT:g}: the mean of the scored targets and the median published score)"
    rows = [(name, nrmse(target, prediction))]
    rows += [(f"{name}_{other}", value) for other, value in (others or {}).items()]
    kept = [
        {"name": row, "value": value, "unit": "standard deviations", "baseline": constant, "baseline_is": said}
        for row, value in rows
    ]
    kept[0].update(published_beside(name))
    return kept


def published_beside(name: str) -> dict[str, Any]:
    """Return the best published score for a score's name.

    Parameters
    ----------
    name : str
        A name that begins with challenge1, challenge2 or overall.

    Returns
    -------
    beside : dict
        Keys anchor and anchor_is, for a session's result; empty if the name begins with something else.
    """
    which = next((field for field in ("challenge1", "challenge2", "overall") if name.startswith(field)), None)
    if which is None:
        return {}
    best = min((score for score in PUBLISHED if getattr(score, which) is not None), key=lambda s: getattr(s, which))
    said = f"{best.what}, {best.where}; on the challenge's hidden subjects, which are not scored here"
    return {"anchor": getattr(best, which), "anchor_is": said}


def _pair(target: Sequence[float], prediction: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    target, prediction = np.ravel(np.asarray(target, float)), np.ravel(np.asarray(prediction, float))
    if target.shape != prediction.shape or not len(target):
        raise ValueError(
            f"There are {len(target)} targets and {len(prediction)} predictions; give one of each per window."
        )
    bad = int((~np.isfinite(target)).sum()), int((~np.isfinite(prediction)).sum())
    if any(bad):
        raise ValueError(f"NaN or infinite values: {bad[0]} targets and {bad[1]} predictions. Nothing was scored.")
    return target, prediction
