"""Signal-to-noise ratio of recordings: split-half reliability, from 0 to 1, over observed time only."""

from __future__ import annotations

import numpy as np

SNR_BIN_S = 0.5
_FEWEST = 10  # spikes needed for an estimate of reliability


def unit_reliability(counts: np.ndarray, seed: int = 0, observed: np.ndarray | None = None) -> np.ndarray:
    """Compute the split-half reliability of each unit, from 0 to 1.

    Each spike goes into one of two halves at random. The counts of the halves correlate over bins as far as the rate
    changes, and not at all for a constant Poisson rate. The Spearman-Brown formula converts the correlation r of the
    halves to that of the whole, 2 r / (1 + r). For Poisson spikes this is the share of the counts' variance that the
    rate explains. It grows with the length of a bin, so compare only values for equal bins.

    Parameters
    ----------
    counts : int array of shape (bins, units)
    seed : int
        Seed of the random halves.
    observed : bool array of shape (bins, units or 1), optional
        Other bins are not used: taken for silence they would look like a rate that changes.

    Returns
    -------
    reliability : ndarray of shape (units,)
        NaN for units with fewer than 10 spikes.
    """
    counts = np.asarray(counts)
    first = np.random.default_rng(seed).binomial(counts, 0.5)
    reliability = _agreement(first, counts - first, observed)
    return np.where(counts.sum(axis=0) >= _FEWEST, reliability, np.nan)


def recording_snr(
    counts: np.ndarray, bin_s: float, seed: int = 0, observed: np.ndarray | None = None, *, is_trace: bool = False
) -> float:
    """Return the mean reliability of a recording's units in bins of 0.5 s; 0 if no unit has one.

    Parameters
    ----------
    counts : array of shape (bins, units)
        Spike counts (see `unit_reliability`), or a trace such as dF/F: then the halves are alternate bins. The decay of
        the indicator makes neighbouring bins alike, so compare values of traces only with each other.
    bin_s : float
        Bin of the counts, in s; counts are summed to bins of 0.5 s, longer bins are kept.
    seed : int
        Seed of the random halves.
    observed : bool array of shape (bins, units or 1), optional
        A bin of 0.5 s is used if all of it was observed.
    is_trace : bool
    """
    together = max(2 if is_trace else 1, round(SNR_BIN_S / bin_s))
    whole = len(counts) // together * together
    if whole == 0:
        return 0.0
    parts = np.asarray(counts)[:whole].reshape(-1, together, counts.shape[1])
    seen = None if observed is None else observed[:whole].reshape(-1, together, observed.shape[1]).all(axis=1)
    if is_trace:
        values = _agreement(parts[:, ::2].mean(axis=1), parts[:, 1::2].mean(axis=1), seen)
    else:
        values = unit_reliability(parts.sum(axis=1), seed, seen)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _agreement(a: np.ndarray, b: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
    """Return the Spearman-Brown reliability of two halves of shape (bins, units) over observed bins."""
    weight = np.ones(a.shape) if observed is None else np.broadcast_to(observed, a.shape).astype(float)
    total = np.maximum(weight.sum(axis=0), 1)
    a, b = (weight * (half - (weight * half).sum(axis=0) / total) for half in (a, b))
    spread = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    r = np.divide((a * b).sum(axis=0), spread, out=np.zeros(a.shape[1]), where=spread > 0)
    r = np.clip(r, 0.0, 1.0)
    return 2 * r / (1 + r)
