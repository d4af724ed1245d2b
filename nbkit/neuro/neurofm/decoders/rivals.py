"""All rival decoders of a recording, on the same windows: Wiener filter, GRU, Bayes, linear discriminant, constant.

Bins in which a unit was not observed get its mean over the training windows, so that no rival takes them for silence;
the Bayesian decoders leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.neuro.neurofm.decoders.baselines import fit_gru, fit_wiener
from nbkit.neuro.neurofm.decoders.bayes import BayesianDirection, BayesianPosition, pooled
from nbkit.neuro.neurofm.decoders.probe import fit_lda
from nbkit.neuro.signals.spikes.binned import SPIKES, TRACE
from nbkit.neuro.signals.spikes.windows import SpikeShard

WIENER, GRU, BAYES, LDA, MEAN = "Wiener", "GRU", "Bayes", "LDA", "mean"
_REACH_S = 1.0  # most time before and after a bin whose spikes Bayes adds to it
_LENGTHS = ("m", "meter", "meters", "metre", "metres", "cm", "mm", "px", "pixel", "pixels")


def windows_of(shard: SpikeShard, windows: np.ndarray, like: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the activity (windows, bins, units) and behaviour (windows, bins, dims) of some windows of a shard.

    Parameters
    ----------
    shard : SpikeShard
    windows : int array
    like : int array, optional
        Training windows, whose means stand for bins that were not observed and whose scales standardise traces; by
        default ``windows``.
    """
    like = windows if like is None else like
    counts, seen = np.asarray(shard.counts[windows], np.float32), shard.observed[windows]
    if shard.activity == TRACE or not seen.all():
        past = np.asarray(shard.counts[like], np.float64)
        weight = np.broadcast_to(shard.observed[like], past.shape)
        bins = np.maximum(weight.sum(axis=(0, 1)), 1)
        means = np.where(weight, past, 0).sum(axis=(0, 1)) / bins
        counts = np.where(seen, counts, means.astype(np.float32))
        if shard.activity == TRACE:
            scales = np.sqrt(np.where(weight, (past - means) ** 2, 0).sum(axis=(0, 1)) / bins).clip(min=1e-6)
            counts = ((counts - means) / scales).astype(np.float32)
    return counts, np.asarray(shard.behaviour[windows], np.float64)


def rivals_of(
    shard: SpikeShard,
    train: np.ndarray,
    asked: np.ndarray,
    names: Sequence[str] = (WIENER, GRU, BAYES, LDA, MEAN),
    *,
    lag_s: float = 0.3,
    gru_steps: int = 400,
) -> dict[str, np.ndarray]:
    """Return what each rival decodes, (windows, bins, dims), by name; only of rivals that suit the recording.

    Bayes is for spikes and an angle or a position (in px, mm, cm or m), LDA for classes.

    Parameters
    ----------
    shard : SpikeShard
    train, asked : int array
        Windows to fit to, and to decode.
    names : sequence of str
        Which rivals.
    lag_s : float
        Time used by the Wiener filter before and after each bin, in s.
    gru_steps : int
        Training steps of the GRU.
    """
    told = np.isfinite(np.asarray(shard.behaviour[train])).all(axis=2).any(axis=1)
    train = train[told] if told.any() else train  # else what chooses a penalty or a step may hold no behaviour at all
    counts, behaviour = windows_of(shard, train)
    test, truth = windows_of(shard, asked, train)
    lags = min(shard.n_bins - 1, max(1, round(lag_s / shard.bin_s)))
    found = {}
    if WIENER in names:
        found[WIENER] = fit_wiener(counts, behaviour, lags=lags)(test)
    if GRU in names:
        found[GRU] = fit_gru(counts, behaviour, steps=gru_steps).decode_windows(test)
    if BAYES in names and shard.activity == SPIKES and (shard.circular or is_position(shard)):
        found[BAYES] = _bayes(shard, train, asked)
    if LDA in names and shard.classes:
        found[LDA] = fit_lda(counts, behaviour, test, truth)
    if MEAN in names:
        found[MEAN] = np.broadcast_to(np.nanmean(behaviour, axis=(0, 1)), truth.shape)
    return found


def is_position(shard: SpikeShard) -> bool:
    """Return whether the behaviour is a place: one to three dims with a length as unit."""
    return shard.behaviour_unit.lower() in _LENGTHS and 1 <= shard.behaviour.shape[2] <= 3


def _bayes(shard: SpikeShard, train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return what Bayes decodes; over how many bins it adds spikes is chosen by leaving out fifths of the training."""
    most = min(shard.n_bins - 1, round(_REACH_S / shard.bin_s))
    errors = dict.fromkeys([0, *(reach for reach in (1, 2, 3, 4, 6, 10, 20, 50) if reach <= most)], 0.0)
    for out in np.array_split(train, 5) if len(train) >= 5 and most else ():
        wanted, rest = np.asarray(shard.behaviour[out], float), np.setdiff1d(train, out)
        if np.isfinite(wanted).any() and np.isfinite(shard.behaviour[rest]).any():
            for reach, answer in _bayes_at(shard, rest, out, list(errors)).items():
                errors[reach] += float(np.nansum((answer - wanted) ** 2))
    best = min(errors, key=lambda reach: errors[reach])
    return _bayes_at(shard, train, asked, [best])[best]


def _bayes_at(shard: SpikeShard, train: np.ndarray, asked: np.ndarray, reaches: Sequence[int]) -> dict[int, np.ndarray]:
    """Return what Bayes decodes from the spikes of each bin and of 0 or more bins on each side of it."""
    known = shard.observed[train].all(axis=2)
    counts, behaviour = shard.counts[train][known], np.asarray(shard.behaviour[train], float)[known]
    angle = np.arctan2(behaviour[:, 1], behaviour[:, 0]) if shard.circular else None
    decoder = BayesianPosition(counts, behaviour) if angle is None else BayesianDirection(counts, angle)
    found = {}
    for reach in reaches:
        answer = decoder(*pooled(shard.counts[asked], shard.observed[asked], reach))
        found[reach] = answer if angle is None else np.stack([np.cos(answer), np.sin(answer)], axis=-1)
    return found
