"""Which stretches of many hours to show to the costly teacher.

Stretches of 30 s are described by what the cheap backbones see of them, clustered, and one or two of each cluster are
chosen; the rest may take interpolated labels from their nearest chosen ones. A choice is always measured beside a
random one of the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, MODALITIES

STRETCH_S = 30.0
CLUSTERS = 300


@dataclass(frozen=True)
class Choice:
    """Hold what was chosen.

    Attributes
    ----------
    chosen : int array of shape (chosen,)
        Indices of stretches, sorted.
    cluster : int array of shape (stretches,)
        The cluster of each stretch.
    distance, random_distance : float
        Mean distance of a stretch from the nearest chosen one, and from the nearest of as many random ones.
    """

    chosen: np.ndarray = field(repr=False)
    cluster: np.ndarray = field(repr=False)
    distance: float
    random_distance: float


def describe_stretches(features: Mapping[str, Any], stretch_s: float = STRETCH_S) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean features of each stretch of a stimulus, and where it begins.

    Returns
    -------
    descriptors : ndarray of shape (stretches, 1408)
        Each modality's part has unit length (an absent one is zero), so that none outweighs the others.
    start_s : ndarray of shape (stretches,)
        The last stretch may be shorter.
    """
    step = max(1, round(stretch_s * FEATURE_HZ))
    total = len(features[MODALITIES[0]])
    starts = np.arange(0, total, step)
    parts = []
    for name in MODALITIES:
        values = np.asarray(features[name], np.float64)
        means = np.stack([values[start : start + step].mean(axis=0) for start in starts])
        length = np.linalg.norm(means, axis=1, keepdims=True)
        parts.append(means / np.where(length > 0, length, 1.0))
    return np.concatenate(parts, axis=1), starts / FEATURE_HZ


def choose_stretches(
    descriptors: np.ndarray, clusters: int = CLUSTERS, per_cluster: int = 1, seed: int = 2025
) -> Choice:
    """Cluster stretches by k-means and choose those nearest to the middle of each cluster.

    Parameters
    ----------
    descriptors : ndarray of shape (stretches, dim)
    clusters : int
        As many as there are stretches where those are fewer.
    per_cluster : int
        1 or 2 as the seed says; any number is allowed.

    Raises
    ------
    ValueError
        For no stretches, NaN, or numbers below 1.
    """
    from sklearn.cluster import KMeans

    descriptors = _checked(descriptors)
    if clusters < 1 or per_cluster < 1:
        raise ValueError(f"{clusters=} and {per_cluster=} must both be 1 or more.")
    clusters = min(clusters, len(np.unique(descriptors, axis=0)))
    found = KMeans(clusters, n_init=3, random_state=seed).fit(descriptors)
    away = np.linalg.norm(descriptors - found.cluster_centers_[found.labels_], axis=1)
    chosen = []
    for number in range(clusters):
        own = np.flatnonzero(found.labels_ == number)
        chosen += own[away[own].argsort(kind="stable")[:per_cluster]].tolist()
    return _choice(descriptors, np.sort(chosen), found.labels_, seed)


def coreset(descriptors: np.ndarray, size: int, seed: int = 2025) -> Choice:
    """Choose stretches so that none is far from a chosen one: the farthest is taken next (Sener & Savarese, 2018).

    Raises
    ------
    ValueError
        For a size that is not between 1 and the number of stretches.
    """
    descriptors = _checked(descriptors)
    if not 1 <= size <= len(descriptors):
        raise ValueError(f"{size=} of {len(descriptors)} stretches; choose between 1 and all.")
    first = int(np.linalg.norm(descriptors - descriptors.mean(axis=0), axis=1).argmin())
    chosen, nearest = [first], np.linalg.norm(descriptors - descriptors[first], axis=1)
    cluster = np.zeros(len(descriptors), int)
    while len(chosen) < size:
        chosen.append(int(nearest.argmax()))
        away = np.linalg.norm(descriptors - descriptors[chosen[-1]], axis=1)
        cluster[away < nearest] = len(chosen) - 1
        nearest = np.minimum(nearest, away)
    return _choice(descriptors, np.sort(chosen), cluster, seed)


def interpolate_labels(
    descriptors: np.ndarray, chosen: np.ndarray, labels: np.ndarray, neighbours: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return every stretch a label from its nearest chosen ones, weighted by 1 / distance.

    Parameters
    ----------
    descriptors : ndarray of shape (stretches, dim)
    chosen : int array of shape (chosen,)
    labels : ndarray of shape (chosen, ...)
        What the teacher said of them.

    Returns
    -------
    labels : ndarray of shape (stretches, ...)
        The chosen ones' own where they have one.
    is_real : bool array of shape (stretches,)
        False for labels that are made up between others.
    """
    from scipy.spatial import cKDTree

    descriptors, labels = _checked(descriptors), np.asarray(labels)
    if len(labels) != len(chosen):
        raise ValueError(f"{len(labels)} labels for {len(chosen)} chosen stretches.")
    away, near = cKDTree(descriptors[chosen]).query(descriptors, k=min(neighbours, len(chosen)))
    away, near = away.reshape(len(descriptors), -1), near.reshape(len(descriptors), -1)
    weights = 1 / np.maximum(away, 1e-12)
    weights /= weights.sum(axis=1, keepdims=True)
    made = np.einsum("sn,sn...->s...", weights, labels[near])
    made[chosen] = labels
    return made.astype(labels.dtype), np.isin(np.arange(len(descriptors)), chosen)


def _choice(descriptors: np.ndarray, chosen: np.ndarray, cluster: np.ndarray, seed: int) -> Choice:
    from scipy.spatial import cKDTree

    others = [np.random.default_rng([seed, i]).choice(len(descriptors), len(chosen), replace=False) for i in range(5)]
    own = float(cKDTree(descriptors[chosen]).query(descriptors)[0].mean())
    random = [float(cKDTree(descriptors[other]).query(descriptors)[0].mean()) for other in others]
    return Choice(chosen, cluster, own, float(np.mean(random)))


def _checked(descriptors: np.ndarray) -> np.ndarray:
    descriptors = np.asarray(descriptors, np.float64)
    if descriptors.ndim != 2 or not len(descriptors):
        raise ValueError(f"descriptors of shape {descriptors.shape}; give (stretches, dim) with one stretch or more.")
    if not np.isfinite(descriptors).all():
        wrong = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
        raise ValueError(f"{len(wrong)} of {len(descriptors)} stretches hold NaN (the first is {wrong[0]}).")
    return descriptors
