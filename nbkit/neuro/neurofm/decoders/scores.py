"""Scores of decoders on held-out windows, and intervals of their differences over blocks of time.

Bins that follow each other are alike, so an interval over bins would be far too narrow. The held-out windows are cut
into blocks of consecutive windows, and the blocks are drawn with replacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbkit.neuro.signals.spikes.windows import SpikeShard

BLOCKS = 10  # of consecutive held-out windows; fewer if there are fewer windows


@dataclass(frozen=True)
class DecoderScore:
    """Score of one decoder on one recording.

    Attributes
    ----------
    recording, decoder : str
    missed, possible : ndarray of shape (blocks,)
        Squared error and squared deviation from the mean; or for classes, the numbers of wrong windows and of windows.
    is_classes : bool
    errors : sequence of ndarray
        For each block, the absolute errors of its bins in ``unit``; empty for behaviours without such an error.
    unit : str
        Unit of the errors: "deg" for angles, else the unit of the behaviour.
    """

    recording: str
    decoder: str
    missed: np.ndarray
    possible: np.ndarray
    is_classes: bool = False
    errors: tuple[np.ndarray, ...] = ()
    unit: str = ""

    @property
    def value(self) -> float:
        """R2 (0: as good as the mean) or, for classes, the fraction of windows that are right.

        NaN if the behaviour does not change in these windows, so that there is nothing to decode.
        """
        return float(1 - self.missed.sum() / self.possible.sum()) if self.possible.sum() > 0 else float("nan")

    @property
    def error(self) -> float:
        """Median absolute error in ``unit``; NaN where it is not defined."""
        return float(np.median(np.concatenate(self.errors))) if self.errors else float("nan")

    @property
    def by_block(self) -> np.ndarray:
        """What each block adds to the score, (blocks,): its mean is `value`, and those of two decoders are paired."""
        return 1 - self.missed * len(self.missed) / max(float(self.possible.sum()), 1e-12)

    def value_of(self, blocks: np.ndarray) -> np.ndarray:
        """Return the score of drawn blocks; ``blocks`` (draws, blocks) has their numbers."""
        return 1 - self.missed[blocks].sum(axis=1) / np.maximum(self.possible[blocks].sum(axis=1), 1e-12)


@dataclass(frozen=True)
class Difference:
    """Difference of two decoders on the same windows, with its interval over blocks; NaN with fewer than 3 blocks."""

    mean: float
    low: float
    high: float
    blocks: int

    @property
    def words(self) -> str:
        """The difference with its interval, and whether it can be told from none."""
        if not np.isfinite(self.mean):
            return "the behaviour does not change in these windows"
        if not np.isfinite(self.low):
            return f"{self.mean:+.3f}, too few blocks ({self.blocks}) for an interval"
        place = "better" if self.low > 0 else "worse" if self.high < 0 else "not distinguishable"
        return f"{place}: {self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f} over {self.blocks} blocks)"


def score_decoding(
    shard: SpikeShard, name: str, truth: np.ndarray, decoded: np.ndarray, blocks: int = BLOCKS
) -> DecoderScore:
    """Return the score of a decoded behaviour.

    Parameters
    ----------
    shard : SpikeShard
        The recording.
    name : str
        Name of the decoder.
    truth, decoded : ndarray of shape (windows, bins, dims)
        Bins where ``truth`` is NaN are left out. For classes the decoded values are summed over a window.
    blocks : int
    """
    known = np.isfinite(truth).all(axis=2)
    told = np.flatnonzero(known.any(axis=1))  # a block in which nothing is known would only widen the interval
    groups = np.array_split(told, max(1, min(blocks, len(told))))
    if shard.classes:
        chosen = np.where(known[..., None], decoded, 0).sum(axis=1).argmax(axis=1)
        right = np.where(known[..., None], truth, 0).sum(axis=1).argmax(axis=1)
        asked = known.any(axis=1)
        wrong = (chosen != right) & asked
        parts = [np.array([part[group].sum() for group in groups], float) for part in (wrong, asked)]
        return DecoderScore(shard.name, name, *parts, is_classes=True)
    mean = truth[known].mean(axis=0)
    size = float((truth[known] ** 2).sum())
    missed = np.where(known[..., None], (truth - decoded) ** 2, 0).sum(axis=(1, 2))
    scatter = np.where(known[..., None], (truth - mean) ** 2, 0).sum(axis=(1, 2))
    scatter = scatter if scatter.sum() > 1e-9 * size else np.zeros_like(scatter)  # constant but for rounding
    parts = [np.array([part[group].sum() for group in groups]) for part in (missed, scatter)]
    if shard.circular:
        angles = [np.arctan2(part[..., 1], part[..., 0]) for part in (decoded, truth)]
        error, unit = angle_error_deg(*angles), "deg"
    else:
        error, unit = np.linalg.norm(truth - decoded, axis=2), shard.behaviour_unit
    errors = tuple(error[group][known[group]] for group in groups)
    return DecoderScore(shard.name, name, *parts, errors=errors, unit=unit)


def difference(score: DecoderScore, rival: DecoderScore, level: float = 0.9, draws: int = 2000) -> Difference:
    """Return the difference of two scores on the same windows (bootstrap over blocks, drawn alike for both)."""
    count, mean = len(score.missed), score.value - rival.value
    if count < 3 or not np.isfinite(mean):
        return Difference(mean, float("nan"), float("nan"), count)
    drawn = np.random.default_rng(0).integers(count, size=(draws, count))
    low, high = np.quantile(score.value_of(drawn) - rival.value_of(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Difference(mean, float(low), float(high), count)


def angle_error_deg(decoded: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the absolute angle between two directions, given in rad, in degrees from 0 to 180."""
    return np.degrees(np.abs(np.angle(np.exp(1j * (np.asarray(decoded) - np.asarray(truth))))))
