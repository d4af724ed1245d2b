"""A control: is the next band predicted around the heartbeats only?

A heartbeat is a sharp wave, so all of its bands rise together: whoever sees it in one band knows the next. It is the
strongest relation across bands that a recording of a brain can hold without the brain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbkit.neuro.bandvar.baselines import stage_pairs
from nbkit.neuro.bandvar.data import EEGFrequencyDataset
from nbkit.neuro.signals.artifacts import find_beats
from nbkit.neuro.signals.windows.mapped import map_npy

NEAR_S, AWAY_S = 0.1, 0.25  # from a beat, to it and beyond it
_MOST_RECORDINGS = 12  # searched for beats, evenly spaced
_AT_ONCE = 64


@dataclass(frozen=True)
class Heartbeat:
    """The skill of a predictor over persistence, near heartbeats and away from them.

    Attributes
    ----------
    searched, found : int
        Held-out recordings in which beats were searched, and in which the EEG beats regularly.
    near, away : array of shape (recordings found,)
        Skill within 0.1 s of a beat, and more than 0.25 s from any.
    rate : float
        Mean beats a minute; NaN if none was found.
    """

    searched: int
    found: int
    near: np.ndarray
    away: np.ndarray
    rate: float

    def words(self) -> str:
        """Return one sentence on what was found."""
        if not self.found:
            return f"No channel of {self.searched} held-out recordings beats like a heart."
        return (
            f"The EEG beats like a heart in {self.found} of {self.searched} held-out recordings ({self.rate:.0f} a "
            f"minute): skill {self.near.mean():.3f} within {NEAR_S:g} s of a beat, {self.away.mean():.3f} more than "
            f"{AWAY_S:g} s from it."
        )


def skill_by_heartbeat(predict: Callable[[np.ndarray], np.ndarray], dataset: EEGFrequencyDataset) -> Heartbeat:
    """Find the heartbeats in held-out recordings and score a predictor near them and away from them.

    Parameters
    ----------
    predict : callable
        One-step predictions of cumulative bands, both of shape (windows, stages, channels, time) in uV.
    dataset : EEGFrequencyDataset
        Held-out windows; those of npz files have no recording, so no beats are found in them.
    """
    shards = dataset.shards
    if shards is None or shards.starts is None:
        return Heartbeat(0, 0, np.zeros(0), np.zeros(0), float("nan"))
    numbers = np.unique(shards.shard_of)
    some = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(_MOST_RECORDINGS, len(numbers))).astype(int))]
    near, away, rates = [], [], []
    for number in some:
        found = find_beats(map_npy(shards.files[number]).T.float().numpy().astype(np.float64), dataset.sfreq)
        if found is None:
            continue
        scores = _scored(predict, dataset, np.flatnonzero(shards.shard_of == number), found[1])
        if np.isfinite(scores).all():
            near.append(scores[0])
            away.append(scores[1])
            rates.append(found[2])
    rate = float(np.mean(rates)) if rates else float("nan")
    return Heartbeat(len(some), len(near), np.array(near), np.array(away), rate)


def _scored(
    predict: Callable[[np.ndarray], np.ndarray], dataset: EEGFrequencyDataset, rows: np.ndarray, beats: np.ndarray
) -> tuple[float, float]:
    """Return the skills of one recording's windows near beats and away from them."""
    sums = np.zeros((2, 2))  # near and away, error and increment
    for begin in range(0, len(rows), _AT_ONCE):
        part = rows[begin : begin + _AT_ONCE]
        levels = np.stack([dataset[int(row)].numpy() for row in part])
        inputs, targets = stage_pairs(levels)
        powers = [np.square(made[:, 1:] - targets[:, 1:]).mean(axis=(1, 2)) for made in (predict(levels), inputs)]
        at = dataset.shards.starts[part][:, None] + np.arange(levels.shape[-1])
        distance = np.abs(at[:, :, None] - beats).min(axis=2) / dataset.sfreq
        for place, inside in enumerate((distance <= NEAR_S, distance > AWAY_S)):
            sums[place] += [power[inside].sum() for power in powers]
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple((1 - sums[:, 0] / sums[:, 1]).tolist())
