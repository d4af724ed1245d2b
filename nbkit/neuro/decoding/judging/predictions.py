"""Predictions of a decoder for all windows that were held out, by fold and group, and samples of their scores.

Windows of one subject are not independent, and neither are seeds or folds. So a sample is of groups (subjects, or the
runs of one subject), with all windows of each.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.files import write_atomically
from nbkit.neuro.decoding.judging.scores import MAIN
from nbkit.neuro.training.scores.class_scores import class_scores, scores_of_draws

PREDICTIONS = "predictions.npz"
_ARRAYS = ("predicted", "target", "groups", "windows", "trained_on")


@dataclass(frozen=True)
class Predictions:
    """Predictions of one decoder on one task, all folds together.

    Attributes
    ----------
    kind : {"classification", "regression"}
    predicted : ndarray of shape (windows, classes) or (windows,)
        Probabilities, or values.
    target : ndarray of shape (windows,)
    groups : ndarray of str, shape (windows,)
    folds : int ndarray of shape (windows,)
        The fold that predicted each window.
    windows : int ndarray of shape (windows,)
        Number of each window in the task, ascending.
    """

    kind: str
    predicted: np.ndarray
    target: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    windows: np.ndarray

    def at(self, windows: np.ndarray) -> Predictions:
        """Return the predictions for some of the windows."""
        keep = np.isin(self.windows, windows)
        return Predictions(
            self.kind, self.predicted[keep], self.target[keep], self.groups[keep], self.folds[keep], self.windows[keep]
        )

    @property
    def names(self) -> np.ndarray:
        """Names of the groups, sorted."""
        return np.unique(self.groups)

    @property
    def group_numbers(self) -> np.ndarray:
        """Number of each window's group in ``names``."""
        return np.searchsorted(self.names, self.groups)

    def score(self, name: str = "") -> float:
        """Return a score of all windows together; by default the main one."""
        name = name or MAIN[self.kind]
        if self.kind == "classification":
            return class_scores(self.target, self.predicted, self.folds)[name]
        return float(self.drawn(np.ones((1, len(self.names))))[name][0])

    def drawn(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of samples of groups.

        Parameters
        ----------
        times : ndarray of shape (draws, groups)
            How often each group is in a sample.

        Returns
        -------
        scores : dict of str to ndarray of shape (draws,)
        """
        of = self.group_numbers
        if self.kind == "classification":
            return scores_of_draws(self.target.astype(int), self.predicted, of, times, self.folds)
        return regression_scores(group_sums(self.target, self.predicted, of, times.shape[1]), times)


def group_sums(target: np.ndarray, predicted: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Return number, sums of target, prediction, their squares and product for each group, shape (groups, 6)."""
    parts = (np.ones(len(target)), target, predicted, target**2, predicted**2, target * predicted)
    return np.stack([np.bincount(of, part, minlength=groups) for part in parts], 1)


def regression_scores(sums: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``r2``, ``rmse`` and ``r`` of samples from `group_sums`."""
    n, t, p, tt, pp, tp = (times @ sums).T
    error, spread = tt - 2 * tp + pp, tt - t**2 / n
    moved = pp - p**2 / n
    both = np.sqrt(np.maximum(spread * moved, 0.0))
    return {
        "r2": 1 - error / np.where(spread > 0, spread, np.nan),
        "rmse": np.sqrt(np.maximum(error, 0.0) / n),
        "r": np.where(both > 0, (tp - t * p / n) / np.where(both > 0, both, 1.0), 0.0),
    }


def write_predictions(path: Path, **arrays: np.ndarray) -> Path:
    """Write one fold's predictions: predicted, target, groups, windows, and the class counts of the training side.

    The same arrays give the same bytes.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(arrays[name]) for name in _ARRAYS})
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path


def label_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return model and mode of a record; the decoder's own name instead of the model, if an experiment gave it one."""
    model, mode = record["model"], record["mode"]
    plain = mode == "baseline" or record["name"] in (f"{model}-{mode}", model)
    return (model if plain else record["name"]), mode


def gathered(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], Predictions]:
    """Return the predictions of each (task, model, mode), all folds together.

    Parameters
    ----------
    records : iterable of mapping
        Records of folds, see `artifacts.read_records`.

    Raises
    ------
    ValueError
        If a record was stored without its predictions.
    """
    parts: dict[tuple[str, str, str], list[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]] = {}
    for record in records:
        path = record.get("predictions")
        if not path:
            raise ValueError(
                f"The record of {record['model']}, {record['mode']}, fold {record['fold']} has no {PREDICTIONS} beside "
                "it: an older version of nbkit computed it. Compute the items again, in another store."
            )
        with np.load(path, allow_pickle=False) as file:
            parts.setdefault((record["task"], *label_of(record)), []).append((record, dict(file)))
    return {key: _joined(found) for key, found in parts.items()}


def _joined(found: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]) -> Predictions:
    arrays = {name: np.concatenate([part[name] for _, part in found]) for name in _ARRAYS[:4]}
    folds = np.concatenate([np.full(len(part["target"]), record["fold"]) for record, part in found])
    order = np.argsort(arrays["windows"], kind="stable")
    return Predictions(
        found[0][0]["kind"], arrays["predicted"][order].astype(float), arrays["target"][order],
        arrays["groups"][order].astype(str), folds[order], arrays["windows"][order],
    )  # fmt: skip
