"""A model beside its rivals on the same people (or runs, or blocks of time): intervals and paired tests.

An interval is a percentile bootstrap over units, or Student's where they are too few to be drawn again. Two models can
be exchanged in each unit if neither is better, so their mean difference is compared with those after random changes of
sign; the p values of all rivals are corrected by Holm's step-down procedure (1979).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t

DRAWS = 2000
FEW = 6  # units; a bootstrap of fewer is much too narrow (of two, half of all draws are one of them twice)
ALL_UP_TO = 12  # units up to which all changes of sign are tried


def mean_interval(values: np.ndarray, draws: int = DRAWS, seed: int = 2025) -> tuple[float, float]:
    """Return the 95 % interval of a mean over units, by bootstrap or, below `FEW`, Student's; NaN for one unit."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    if len(values) < FEW:
        half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        return float(values.mean() - half), float(values.mean() + half)
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def sign_p(differences: np.ndarray, draws: int = DRAWS, seed: int = 2025) -> float:
    """Return the two-sided p value of a mean difference when the signs of units are random; NaN for fewer than two."""
    differences = np.asarray(differences, float)
    count = len(differences)
    if count < 2:
        return float("nan")
    if count <= ALL_UP_TO:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(draws, count))
    found = np.abs((signs * differences).mean(axis=1))
    hits = int((found >= abs(differences.mean()) - 1e-12).sum())
    return hits / len(found) if count <= ALL_UP_TO else (1 + hits) / (1 + len(found))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's procedure; NaN stays NaN and does not count."""
    known = [(p, place) for place, p in enumerate(p_values) if np.isfinite(p)]
    out, largest = [float("nan")] * len(p_values), 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        out[place] = largest
    return out


def beside(ours: np.ndarray, rivals: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return a score's interval and its rivals, as a session's results take them.

    Parameters
    ----------
    ours : ndarray of shape (units,)
        The score of each unit; a unit that is NaN for ours or for a rival is left out of that comparison.
    rivals : mapping of str to ndarray of shape (units,)
        Those of the other models on the same units.

    Returns
    -------
    fields : dict
        low, high, and rivals, each with name, value, low, high, difference, difference_low, difference_high and p.
    """
    ours = np.asarray(ours, float)
    found = []
    for name, values in rivals.items():
        theirs = np.asarray(values, float)
        both = np.isfinite(ours) & np.isfinite(theirs)
        gap, theirs = ours[both] - theirs[both], theirs[both]
        if not len(gap):
            continue
        own, ends = mean_interval(theirs), mean_interval(gap)
        found.append({
            "name": name, "value": float(theirs.mean()), "low": own[0], "high": own[1],
            "difference": float(gap.mean()), "difference_low": ends[0], "difference_high": ends[1], "p": sign_p(gap),
        })  # fmt: skip
    for rival, p in zip(found, holm([rival["p"] for rival in found]), strict=True):
        rival["p"] = p
    low, high = mean_interval(ours[np.isfinite(ours)])
    return {"low": low, "high": high, "rivals": found}
