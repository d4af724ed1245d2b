"""Sweet spot: the cheapest configuration whose score is not clearly below the best.

The rule is the one-standard-error rule (Breiman et al. 1984): take the cheapest configuration whose mean score is
within one standard error of the best mean score. It needs several seeds for each configuration; with one seed there is
no standard error, and the best configuration is returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Configuration:
    """Cost and score of one configuration, over its seeds.

    Attributes
    ----------
    name : str
    compute : float
        Mean over seeds, in the unit of the input.
    score : float
        Mean over seeds; higher is better.
    error : float
        Standard error of the score, from the pooled standard deviation of all configurations; 0 if no configuration has
        several seeds.
    seeds : int
        Number of seeds.
    on_front : bool
        True if the configuration is Pareto-optimal: no other has a higher score at the same or lower cost.
    """

    name: str
    compute: float
    score: float
    error: float
    seeds: int
    on_front: bool


@dataclass(frozen=True)
class SweetSpot:
    """Chosen configuration, best configuration, and the reason for the choice.

    Attributes
    ----------
    name, best : str
        Names of the chosen configuration and of the one with the best score.
    reason : str
        The rule with its numbers.
    configurations : tuple of Configuration
        Sorted by compute, cheapest first.
    """

    name: str
    best: str
    reason: str
    configurations: tuple[Configuration, ...]


def find_sweet_spot(runs: Sequence[Mapping[str, object]]) -> SweetSpot:
    """Find the cheapest configuration within one standard error of the best.

    Parameters
    ----------
    runs : sequence of mapping
        One for each seed of each configuration, with ``name``, ``compute`` (above 0) and ``score`` (higher is better).

    Returns
    -------
    spot : SweetSpot

    Raises
    ------
    ValueError
        If there are no runs, a number is not finite, or a compute is not above 0.

    Examples
    --------
    >>> runs = [{"name": n, "compute": c, "score": s + e} for n, c, s in [("small", 1, 0.2), ("large", 9, 0.21)]
    ...         for e in (-0.02, 0.02)]
    >>> find_sweet_spot(runs).name
    'small'
    """
    if not runs:
        raise ValueError("There are 0 completed runs, so there is nothing to compare. Complete some trials first.")
    groups: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        compute, score = float(run["compute"]), float(run["score"])
        if not (np.isfinite(score) and np.isfinite(compute) and compute > 0):
            raise ValueError(
                f"Run {run['name']} has compute {compute:g} and score {score:g}; both must be finite, and compute "
                "above 0. Leave the run out, or repeat it."
            )
        groups.setdefault(str(run["name"]), []).append((compute, score))
    freedom = sum(len(group) - 1 for group in groups.values())
    squares = sum(len(group) * float(np.var([score for _, score in group])) for group in groups.values())
    spread = (squares / freedom) ** 0.5 if freedom else 0.0

    means = {name: tuple(np.mean(group, axis=0)) for name, group in groups.items()}
    found = [
        Configuration(
            name, float(compute), float(score), spread / len(groups[name]) ** 0.5, len(groups[name]),
            not any(s > score and c <= compute for c, s in means.values()),
        )
        for name, (compute, score) in means.items()
    ]  # fmt: skip
    found.sort(key=lambda one: (one.compute, -one.score))
    best = max(found, key=lambda one: one.score)
    spot = next(one for one in found if one.score >= best.score - best.error)
    if not freedom:
        reason = f"{best.name} has the best score; with one seed each, the uncertainty is unknown"
    elif spot is best:
        reason = f"{best.name} scores {best.score:.4g}, and no cheaper one is within one standard error"
    else:
        reason = (
            f"{spot.name} scores {spot.score:.4g} with {spot.compute / best.compute:.0%} of the compute of "
            f"{best.name}, the best with {best.score:.4g}: within one standard error ({best.error:.2g})"
        )
    return SweetSpot(spot.name, best.name, reason, tuple(found))
