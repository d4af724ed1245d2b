"""Select diverse stretches of many hours of stimuli for the expensive teacher.

Stretches of 30 s are described by the features of the cheap backbones and clustered, and one or two of each cluster are
chosen. The others may get labels interpolated from the nearest chosen ones. Each selection is compared with random ones
of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, MODALITIES, read_features

STRETCH_S = 30.0
CLUSTERS = 300
WAYS = ("clusters", "coreset")


@dataclass(frozen=True)
class Choice:
    """Selected stretches.

    Attributes
    ----------
    chosen : int array of shape (chosen,)
        Indices of the selected stretches, sorted.
    cluster : int array of shape (stretches,)
        Cluster of each stretch.
    distance, random_distance : float
        Mean distance from a stretch to the nearest selected one, and to the nearest of as many random ones.
    """

    chosen: np.ndarray = field(repr=False)
    cluster: np.ndarray = field(repr=False)
    distance: float
    random_distance: float


def describe_stretches(features: Mapping[str, Any], stretch_s: float = STRETCH_S) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean features of each stretch of a stimulus, and the start of each stretch.

    Parameters
    ----------
    features : mapping
        See `pack_features`.
    stretch_s : float
        Length of a stretch, in s.

    Returns
    -------
    descriptors : ndarray of shape (stretches, 1408)
        The part of each modality has unit length (zero if absent), so that all have the same weight.
    start_s : ndarray of shape (stretches,)
        In s; the last stretch may be shorter.
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
    """Cluster stretches by k-means and select those nearest to the centre of each cluster.

    Parameters
    ----------
    descriptors : ndarray of shape (stretches, dim)
    clusters : int
        At most the number of different stretches.
    per_cluster : int
        Stretches per cluster; the seed project uses 1 or 2.
    seed : int
        Seed of k-means and of the random comparison.

    Returns
    -------
    choice : Choice

    Raises
    ------
    ValueError
        If there are no stretches, NaN values, or numbers below 1.
    """
    from sklearn.cluster import KMeans

    descriptors = _checked(descriptors)
    if clusters < 1 or per_cluster < 1:
        raise ValueError(f"The numbers {clusters=} and {per_cluster=} must both be 1 or more.")
    clusters = min(clusters, len(np.unique(descriptors, axis=0)))
    found = KMeans(clusters, n_init=3, random_state=seed).fit(descriptors)
    away = np.linalg.norm(descriptors - found.cluster_centers_[found.labels_], axis=1)
    chosen = []
    for number in range(clusters):
        own = np.flatnonzero(found.labels_ == number)
        chosen += own[away[own].argsort(kind="stable")[:per_cluster]].tolist()
    return _choice(descriptors, np.sort(chosen), found.labels_, seed)


def choose(way: str, descriptors: np.ndarray, count: int) -> Choice:
    """Select stretches by k-means clusters or as a coreset (see `choose_stretches` and `coreset`).

    Parameters
    ----------
    way : {"clusters", "coreset"}
    descriptors : ndarray of shape (stretches, dim)
    count : int
        Number of clusters, or of stretches; at most as many as there are.

    Raises
    ------
    ValueError
        If the way is unknown.
    """
    if way not in WAYS:
        raise ValueError(f"Stretches cannot be chosen by {way!r}; CHOICE may be {' or '.join(WAYS)}.")
    if way == "clusters":
        return choose_stretches(descriptors, count)
    return coreset(descriptors, min(count, len(descriptors)))


def distance_rows(choice: Choice) -> list[dict[str, Any]]:
    """Return the result row of a choice's distance beside that of a random one; none where every stretch is chosen."""
    if len(choice.chosen) == len(choice.cluster):
        print(
            f"All {len(choice.cluster)} stretches are chosen, so each is at distance 0 from them, however they are "
            "chosen: distance_to_chosen is withheld. Give more stimuli or choose fewer."
        )
        return []
    beside = {"baseline": choice.random_distance, "baseline_is": "as many random stretches", "lower_is_better": True}
    return [{"name": "distance_to_chosen", "value": choice.distance, "unit": "1", **beside}]


def chosen_rows(
    rows: Sequence[Mapping[str, str]], inputs: Callable[[str], Sequence[Path]], clusters: int, way: str = "clusters"
) -> list[Mapping[str, str]]:
    """Return the rows of the teacher's manifest that hold a stretch which 61_tribe_features chose.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of `segment_rows`.
    inputs : callable
        Maps a phase's name to the files that it stored; the features are read from ``tribe_features``.
    clusters : int
        Number of clusters or stretches, as in 61; 0 returns all rows.
    way : {"clusters", "coreset"}
        As in 61.

    Raises
    ------
    ValueError
        If no chosen stretch is in a row.
    """
    if not clusters:
        return list(rows)
    described, places = [], []
    for path in inputs("tribe_features"):
        features = read_features(path)
        values, starts = describe_stretches(features)
        described.append(values)
        places.extend((features["video_id"], start) for start in starts)
    chosen = [places[number] for number in choose(way, np.concatenate(described), clusters).chosen]
    kept = [
        row for row in rows
        if any(row["video_id"] == name and int(row["tr_start"]) <= start < int(row["tr_end"] or 0)
               for name, start in chosen)
    ]  # fmt: skip
    if not kept:
        raise ValueError(
            f"None of the {len(chosen)} chosen stretches ({chosen[0][0]}, ...) is in the {len(rows)} rows "
            f"({rows[0]['video_id']}, ...); give the same CLIPS and DATASET as in 61_tribe_features."
        )
    return kept


def coreset(descriptors: np.ndarray, size: int, seed: int = 2025) -> Choice:
    """Select stretches so that none is far from a selected one: repeatedly add the farthest (Sener & Savarese, 2018).

    Returns
    -------
    choice : Choice

    Raises
    ------
    ValueError
        If the size is not between 1 and the number of stretches.
    """
    descriptors = _checked(descriptors)
    if not 1 <= size <= len(descriptors):
        raise ValueError(f"Cannot choose {size=} of {len(descriptors)} stretches; give 1 to {len(descriptors)}.")
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
    """Interpolate labels of all stretches from the nearest selected ones, weighted by 1 / distance.

    Parameters
    ----------
    descriptors : ndarray of shape (stretches, dim)
    chosen : int array of shape (chosen,)
        Indices of the selected stretches.
    labels : ndarray of shape (chosen, ...)
        Teacher predictions for them.
    neighbours : int
        Number of selected stretches per interpolation.

    Returns
    -------
    labels : ndarray of shape (stretches, ...)
        Selected stretches keep their own labels.
    is_real : bool array of shape (stretches,)
        False for interpolated labels.
    """
    from sklearn.neighbors import NearestNeighbors

    descriptors, labels = _checked(descriptors), np.asarray(labels)
    if len(labels) != len(chosen):
        raise ValueError(f"There are {len(labels)} labels for {len(chosen)} chosen stretches; give one for each.")
    is_real = np.isin(np.arange(len(descriptors)), chosen)
    made = np.zeros((len(descriptors), *labels.shape[1:]), labels.dtype)
    made[chosen] = labels
    if not is_real.all():
        # by matrix products: a tree does not pay in hundreds of dimensions
        search = NearestNeighbors(n_neighbors=min(neighbours, len(chosen)), algorithm="brute").fit(descriptors[chosen])
        away, near = search.kneighbors(descriptors[~is_real])
        weights = 1 / np.maximum(away, 1e-12)
        weights /= weights.sum(axis=1, keepdims=True)
        made[~is_real] = np.einsum("sn,sn...->s...", weights, labels[near]).astype(labels.dtype)
    return made, is_real


def _choice(descriptors: np.ndarray, chosen: np.ndarray, cluster: np.ndarray, seed: int) -> Choice:
    from scipy.spatial import cKDTree

    others = [np.random.default_rng([seed, i]).choice(len(descriptors), len(chosen), replace=False) for i in range(5)]
    own = float(cKDTree(descriptors[chosen]).query(descriptors)[0].mean())
    random = [float(cKDTree(descriptors[other]).query(descriptors)[0].mean()) for other in others]
    return Choice(chosen, cluster, own, float(np.mean(random)))


def _checked(descriptors: np.ndarray) -> np.ndarray:
    descriptors = np.asarray(descriptors, np.float64)
    if descriptors.ndim != 2 or not len(descriptors):
        raise ValueError(
            f"Got descriptors of shape {descriptors.shape}; give (stretches, dim) with one stretch or more."
        )
    if not np.isfinite(descriptors).all():
        wrong = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
        raise ValueError(f"Bad features: {len(wrong)} of {len(descriptors)} stretches hold NaN (first: {wrong[0]}).")
    return descriptors
