"""Linear probes of the latents: subject, condition and event.

Each score is reported with its chance level and with the scores of the same probe on permuted labels, on an encoder
with random weights, on the other blocks of latents, and on log band powers. Condition and event are scored on subjects
that the probe was not fitted to. The subject is scored on later parts of the recordings, with a gap in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.neuro.jepa.encoder import BLOCKS, Encoder
from nbkit.neuro.signals.assignment import assign
from nbkit.neuro.signals.hbn.windows import STIMULI, TRIAL
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.training.power_ridge import log_band_powers

TARGETS = {"subject": "trait", "condition": "state", "event": "event"}  # the block that should hold each target
_AT_ONCE = 64  # windows per batch of an encoder
_FIRST, _LAST = 0.6, 0.7  # shares of a recording: the probe is fitted before the first and scored after the second


@dataclass(frozen=True)
class Probed:
    """Score of one probe.

    Attributes
    ----------
    target : str
        ``subject``, ``condition`` or ``event``.
    features : str
        ``trained``, ``untrained`` or ``band powers``.
    block : str
        ``trait``, ``state``, ``event`` or ``all``.
    accuracy : float
        Balanced accuracy: mean over classes of the share of correct predictions.
    permuted : float
        Balanced accuracy after fitting to permuted labels.
    chance : float
        One divided by the number of classes.
    windows : int
        Number of windows that were scored.
    """

    target: str
    features: str
    block: str
    accuracy: float
    permuted: float
    chance: float
    windows: int


def probe_all(
    encoders: Mapping[str, Encoder],
    shards: WindowShards,
    crop: int | None = None,
    limit: int | None = None,
    seed: int = 2025,
) -> list[Probed]:
    """Probe each block of each encoder, and band powers, for all targets that the windows have.

    Parameters
    ----------
    encoders : mapping of str to Encoder
        Such as ``{"trained": ..., "untrained": ...}``.
    shards : WindowShards
        With the column ``task`` to probe the condition, and ``event`` to probe the event.
    crop : int, optional
        Samples kept in the middle of each window.
    limit : int, optional
        Maximal number of windows, evenly spaced.
    seed : int
        Seed of the splits and the permutation.

    Returns
    -------
    scores : list of Probed
    """
    if limit is not None and limit < len(shards):
        shards = shards.subset(np.linspace(0, len(shards) - 1, limit).round().astype(int))
    parts: dict[str, dict[str, np.ndarray]] = {
        name: {"all": latents, **{block: latents[:, place] for block, place in BLOCKS.items()}}
        for name, latents in ((name, encoded(encoder, shards, crop)) for name, encoder in encoders.items())
    }
    powers = [log_band_powers(middle(batch, crop).numpy(), shards.sfreq) for batch in _batches(shards)]
    parts["band powers"] = {"all": np.concatenate(powers)}
    scores = []
    for target, labels, fitted, scored in questions(shards, seed):
        for name, blocks in parts.items():
            for block, values in blocks.items():
                told = linear_probe(values, labels, fitted, scored, seed)
                scores.append(Probed(target, name, block, *told, 1 / len(set(labels[fitted])), int(scored.sum())))
    return scores


def questions(shards: WindowShards, seed: int = 2025) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Return the targets that the windows allow to probe.

    Parameters
    ----------
    shards : WindowShards
    seed : int
        Seed of the split of subjects.

    Returns
    -------
    questions : list of (target, labels, fitted, scored)
        Name of the target, a label per window, and masks of the windows to fit to and to score.
    """
    asked = []
    names, place = shards.subjects, _place_in_recording(shards)
    by_subject = [np.isin(names, sorted(side)) for side in assign(names.tolist(), (0.6, 0.4), seed)]
    if len(set(names)) > 1:
        asked.append(("subject", names, place < _FIRST, place >= _LAST))
    if "task" in shards.column_names and len(set(shards.column("task"))) > 1:
        asked.append(("condition", shards.column("task").astype(str), *by_subject))
    if "event" in shards.column_names:
        events = shards.column("event").astype(str)
        known = np.isin(events, (TRIAL, *STIMULI))
        labels = np.where(np.isin(events, STIMULI), "stimulus shown", "waiting")
        if len(set(labels[known])) > 1:
            asked.append(("event", labels, *(side & known for side in by_subject)))
    return [(target, labels, *masks) for target, labels, *masks in asked if _every_class(labels, *masks)]


def linear_probe(
    values: np.ndarray, labels: np.ndarray, fitted: np.ndarray, scored: np.ndarray, seed: int = 2025
) -> tuple[float, float]:
    """Fit a ridge classifier and return its balanced accuracy with true and with permuted labels.

    Parameters
    ----------
    values : ndarray of shape (windows, features)
    labels : ndarray of shape (windows,)
    fitted, scored : ndarray of shape (windows,)
        Masks of the windows to fit to and to score.
    seed : int
        Seed of the permutation.

    Returns
    -------
    accuracy, permuted : float
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def score(given: np.ndarray) -> float:
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0, class_weight="balanced"))
        model.fit(values[fitted], given)
        return float(balanced_accuracy_score(labels[scored], model.predict(values[scored])))

    return score(labels[fitted]), score(np.random.default_rng(seed).permutation(labels[fitted]))


def encoded(encoder: Encoder, shards: WindowShards, crop: int | None = None) -> np.ndarray:
    """Return the latents of all windows, shape (windows, 96)."""
    was, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    with torch.no_grad():
        parts = [encoder(middle(batch, crop).to(device)).float().cpu().numpy() for batch in _batches(shards)]
    encoder.train(was)
    return np.concatenate(parts)


def middle(windows: torch.Tensor, crop: int | None) -> torch.Tensor:
    """Return the middle ``crop`` samples of windows, which the event column describes."""
    if crop is None or crop >= windows.shape[-1]:
        return windows
    start = (windows.shape[-1] - crop) // 2
    return windows[..., start : start + crop]


def probe_rows(scores: Sequence[Probed]) -> list[dict[str, Any]]:
    """Return the result rows of the trained probes: each target from its own block.

    The baselines are chance and, if present, the same block of an encoder with random weights.
    """
    found = {(s.target, s.features, s.block): s for s in scores}
    rows = []
    for target, block in TARGETS.items():
        mine = found.get((target, "trained", block))
        if mine is None:
            continue
        name, value = f"probe_{target}_from_{block}", mine.accuracy
        rows.append({"name": name, "value": value, "unit": "balanced accuracy", "baseline": mine.chance,
                     "baseline_is": "chance"})  # fmt: skip
        if other := found.get((target, "untrained", block)):
            rows.append({"name": f"{name}_gain", "value": value, "unit": "balanced accuracy",
                         "baseline": other.accuracy, "baseline_is": "an encoder of random weights"})  # fmt: skip
    return rows


def _batches(shards: WindowShards) -> Iterator[torch.Tensor]:
    for begin in range(0, len(shards), _AT_ONCE):
        yield torch.from_numpy(shards.subset(np.arange(begin, min(begin + _AT_ONCE, len(shards)))).stack())


def _place_in_recording(shards: WindowShards) -> np.ndarray:
    """Return the relative position of each window in its recording, from 0 to 1."""
    place, of = np.zeros(len(shards)), shards.shard_of
    for shard in np.unique(of):
        rows = np.flatnonzero(of == shard)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return place


def _every_class(labels: np.ndarray, fitted: np.ndarray, scored: np.ndarray) -> bool:
    return len(set(labels[fitted])) > 1 and set(labels[scored]) == set(labels[fitted])
