"""Intervals, paired tests and chance levels over groups, mostly subjects.

- An interval is a percentile bootstrap that resamples groups with all their windows.
- Two decoders are compared on the same windows: under the null hypothesis they can be exchanged in each group, so the
  difference is compared with those after exchanging them in random groups (all exchanges with 12 groups or fewer).
- Chance: within each group the classes are renamed at random, all windows of a class together, because windows of one
  recording are alike. Where a group has one class, the groups' classes are shuffled among them instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbkit.neuro.decoding.judging.predictions import Predictions, group_sums
from nbkit.neuro.decoding.judging.scores import MAIN
from nbkit.neuro.training.scores.class_scores import subject_draws
from nbkit.neuro.training.scores.pooled import exchange_p

DRAWS = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval over groups; the ends are NaN with fewer than two groups."""

    value: float
    low: float
    high: float
    groups: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference:
    """Difference of two decoders on the same windows, with its interval and the p value of exchanging them."""

    interval: Interval
    p: float


def interval(predictions: Predictions, score: str = "", draws: int = DRAWS, seed: int = 2025) -> Interval:
    """Return a score with its interval over groups."""
    score = score or MAIN[predictions.kind]
    groups = len(predictions.names)
    value = predictions.score(score)
    if groups < 2:
        return Interval(value, np.nan, np.nan, groups)
    found = _drawn(predictions, score, subject_draws(groups, draws, seed))
    return Interval(value, *_ends(found), groups)


def difference(
    one: Predictions, other: Predictions, score: str = "", draws: int = DRAWS, seed: int = 2025
) -> Difference:
    """Compare two decoders on the windows that both predicted.

    Raises
    ------
    ValueError
        If no window was predicted by both, or their targets differ.
    """
    common = np.intersect1d(one.windows, other.windows)
    one, other = one.at(common), other.at(common)
    if not len(common) or not np.array_equal(one.target, other.target):
        raise ValueError(
            f"Two decoders share {len(common)} windows with the same targets; compare decoders of the same task."
        )
    score = score or MAIN[one.kind]
    groups = len(one.names)
    value = one.score(score) - other.score(score)
    if groups < 2:
        return Difference(Interval(value, np.nan, np.nan, groups), np.nan)
    times = subject_draws(groups, draws, seed)
    found = Interval(value, *_ends(_drawn(one, score, times) - _drawn(other, score, times)), groups)
    if score != MAIN[one.kind]:
        return Difference(found, np.nan)
    by_one, by_other = (_by_group(p).reshape(groups, -1) for p in (one, other))
    return Difference(found, exchange_p(_r2 if one.kind == "regression" else _of_counts, by_one, by_other, draws, seed))


def above_chance(predictions: Predictions, draws: int = DRAWS, seed: int = 2025) -> tuple[float, float]:
    """Return the p value that the main score is above chance, and the score that chance reaches in 5 % of the draws."""
    rng, of = np.random.default_rng(seed), predictions.group_numbers
    groups = len(predictions.names)
    if predictions.kind == "classification":
        found = _renamed(_by_group(predictions), rng, draws)
    else:
        found = np.array([_shuffled_r2(predictions, of, groups, rng) for _ in range(min(draws, 500))])
    value = predictions.score()
    p = (1 + int((found >= value - 1e-12).sum())) / (1 + len(found))
    return float(p), float(np.quantile(found, 1 - LEVEL))


def best_by_chance(several: Sequence[Predictions], draws: int = DRAWS, seed: int = 2025) -> float:
    """Return the main score that the best of several decoders of the same windows exceeds by chance in 5 % of draws.

    In each draw all decoders meet the same renamed classes (or shuffled values), and the best of them counts, so that
    a decoder above this score is above chance after correction for their number.
    """
    if several[0].kind == "classification":
        counts = np.stack([_by_group(found) for found in several])
        drawn = _renamed(counts, np.random.default_rng(seed), draws)
    else:
        of, groups, few = several[0].group_numbers, len(several[0].names), min(draws, 200)
        shuffles = [np.random.default_rng(seed) for _ in several]
        drawn = np.array([
            [_shuffled_r2(found, of, groups, rng) for found, rng in zip(several, shuffles, strict=True)]
            for _ in range(few)
        ])  # fmt: skip
    return float(np.quantile(drawn.max(axis=1), 1 - LEVEL))


def verdict(found: Difference, corrected: float, name: str) -> str:
    """Return a comparison in words: above, below, or not distinguishable from a decoder's name."""
    groups = found.interval.groups
    if not np.isfinite(corrected) or 2.0 / 2.0**groups > LEVEL:
        return f"{groups} groups are too few to tell from {name}"
    if corrected > LEVEL:
        return f"not distinguishable from {name}"
    return f"{'above' if found.interval.value > 0 else 'below'} {name}"


def _drawn(p: Predictions, score: str, times: np.ndarray) -> np.ndarray:
    """Return a score of samples of groups, shape (draws,); the main score needs no probabilities."""
    if score != MAIN[p.kind]:
        return p.drawn(times)[score]
    total = np.tensordot(times, _by_group(p), 1)
    return _r2(total) if p.kind == "regression" else _balanced(total)


def _by_group(p: Predictions) -> np.ndarray:
    """Return what the main score needs of each group: counts of (true, predicted), or sums of a regression."""
    groups, of = len(p.names), p.group_numbers
    if p.kind == "regression":
        return group_sums(p.target, p.predicted, of, groups)
    classes = p.predicted.shape[1]
    cells = (of * classes + p.target.astype(int)) * classes + p.predicted.argmax(1)
    return np.bincount(cells, minlength=groups * classes**2).reshape(groups, classes, classes).astype(float)


def _r2(sums: np.ndarray) -> np.ndarray:
    n, t, _, tt, pp, tp = sums.T
    return 1 - (tt - 2 * tp + pp) / (tt - t**2 / n)


def _of_counts(sums: np.ndarray) -> np.ndarray:
    """Return the balanced accuracy from counts of shape (..., classes * classes)."""
    classes = round(sums.shape[-1] ** 0.5)
    return _balanced(sums.reshape(*sums.shape[:-1], classes, classes))


def _balanced(counts: np.ndarray) -> np.ndarray:
    rows, right = counts.sum(-1), np.diagonal(counts, axis1=-2, axis2=-1)
    return np.nanmean(np.where(rows > 0, right / np.maximum(rows, 1), np.nan), axis=-1)


def _renamed(counts: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Return the balanced accuracy with the classes of each group renamed at random, shape (draws, ...).

    Counts have the shape (..., groups, classes, classes). All decoders of the leading axes meet the same renaming, and
    have the same true classes.
    """
    *leading, groups, classes, _ = counts.shape
    true = counts.reshape(-1, groups, classes, classes)[0].sum(2)
    total = np.empty((draws, *leading, classes, classes))
    own = true.argmax(1)  # the class of a group that has one
    single = np.flatnonzero((true > 0).sum(1) <= 1)
    for draw in range(draws):
        names = rng.permuted(np.tile(np.arange(classes), (groups, 1)), axis=1)
        mixed = counts[..., np.arange(groups)[:, None], names, :]
        if len(single):
            mixed[..., single, :, :] = 0.0
            mixed[..., single, rng.permutation(own[single]), :] = counts[..., single, own[single], :]
        total[draw] = mixed.sum(-3)
    return _balanced(total)


def _shuffled_r2(p: Predictions, of: np.ndarray, groups: int, rng: np.random.Generator) -> float:
    """Return r2 with the targets shuffled within groups, or among the groups if they are constant within each."""
    target = p.target.copy()
    inside = [np.flatnonzero(of == group) for group in range(groups)]
    if all(np.ptp(target[rows]) == 0 for rows in inside):
        values = rng.permutation([target[rows[0]] for rows in inside])
        for rows, value in zip(inside, values, strict=True):
            target[rows] = value
    else:
        for rows in inside:
            target[rows] = target[rng.permutation(rows)]
    return float(_r2(group_sums(target, p.predicted, np.zeros(len(of), int), 1))[0])


def _ends(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
