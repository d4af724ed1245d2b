"""Where more compute stops buying a better score.

The rule is Breiman's (1984) one standard error: the cheapest configuration whose mean score lies within one standard
error of the best one's. It needs several seeds a configuration; with one there is no error, and the best is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Configuration:
    """What one configuration costs and scores, over its seeds.

    Attributes
    ----------
    name : str
    compute : float
        Mean over seeds, in the unit that came in.
    score : float
        Mean over seeds; higher is better.
    error : float
        Standard error of the score, by the spread that all configurations share; 0 where no seed was repeated.
    seeds : int
    on_front : bool
        Whether no other costs at most as much and scores higher.
    """

    name: str
    compute: float
    score: float
    error: float
    seeds: int
    on_front: bool


@dataclass(frozen=True)
class SweetSpot:
    """Give the configuration to take, the best one, and why they differ.

    Attributes
    ----------
    name, best : str
    reason : str
        The rule with its numbers.
    configurations : tuple of Configuration
        From cheap to dear.
    """

    name: str
    best: str
    reason: str
    configurations: tuple[Configuration, ...]


def find_sweet_spot(runs: Sequence[Mapping[str, object]]) -> SweetSpot:
    """Find the cheapest configuration that cannot be told from the best.

    Parameters
    ----------
    runs : sequence of mapping
        Each with ``name``, ``compute`` (above 0) and ``score`` (higher is better); one a seed.

    Returns
    -------
    spot : SweetSpot

    Raises
    ------
    ValueError
        For no runs, or numbers that are not finite.

    Examples
    --------
    >>> runs = [{"name": n, "compute": c, "score": s + e} for n, c, s in [("small", 1, 0.2), ("large", 9, 0.21)]
    ...         for e in (-0.02, 0.02)]
    >>> find_sweet_spot(runs).name
    'small'
    """
    if not runs:
        raise ValueError("no run is done yet: there is nothing to compare. Let trials end first.")
    groups: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        compute, score = float(run["compute"]), float(run["score"])
        if not (np.isfinite(score) and np.isfinite(compute) and compute > 0):
            raise ValueError(f"{run['name']} has compute {compute:g} and score {score:g}; both must be finite numbers.")
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
        reason = f"{best.name} scores best; one seed each says nothing of how sure that is"
    elif spot is best:
        reason = f"{best.name} scores {best.score:.4g}, and no cheaper one comes within one standard error"
    else:
        reason = (
            f"{spot.name} scores {spot.score:.4g} for {spot.compute / best.compute:.0%} of the compute of {best.name}, "
            f"the best with {best.score:.4g}: within one standard error ({best.error:.2g})"
        )
    return SweetSpot(spot.name, best.name, reason, tuple(found))
