"""Linear baseline with the same number of bits: PCA with quantised components.

It is fitted to the same targets as `TokenizerTraining` (each band in units of its power), on the same training windows,
and uses the same number of bits for each window: tokens times log2(codes). Bits are assigned to the components where
they reduce the error most, and each component is rounded to the optimal levels for a Gaussian (Lloyd 1982,
https://doi.org/10.1109/TIT.1982.1056489).
"""

from __future__ import annotations

import math

import numpy as np

_MOST_BITS = 10


def gaussian_levels(bits: int, iterations: int = 500) -> np.ndarray:
    """Return the ``2 ** bits`` levels with the lowest mean squared error for a standard normal variable."""
    from scipy.stats import norm

    count = 2**bits
    levels = norm.ppf((np.arange(count) + 0.5) / count)
    for _ in range(iterations):
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        levels = (norm.pdf(edges[:-1]) - norm.pdf(edges[1:])) / np.diff(norm.cdf(edges))  # mean of each cell
    return levels


def gaussian_distortion(levels: np.ndarray) -> float:
    """Return the mean squared error of rounding a standard normal variable to `gaussian_levels`."""
    from scipy.stats import norm

    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    return float(1 - np.sum(np.diff(norm.cdf(edges)) * levels**2))


def spread_bits(variances: np.ndarray, bits: int, distortion: np.ndarray) -> np.ndarray:
    """Assign bits to components, one by one, each where it reduces the error most.

    Parameters
    ----------
    variances : array of shape (components,)
    bits : int
        Total number of bits.
    distortion : array of shape (bits + 1,)
        Mean squared error of a component of variance 1 that has 0, 1, ... bits.

    Returns
    -------
    spent : int array of shape (components,)
        Bits of each component.
    """
    spent = np.zeros(len(variances), dtype=int)
    gain = variances * (distortion[0] - distortion[1])
    for _ in range(bits):
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        spent[best] += 1
        now = spent[best]
        gain[best] = variances[best] * (distortion[now] - distortion[now + 1]) if now + 1 < len(distortion) else 0.0
    return spent


class EqualRatePCA:
    """Code windows with quantised principal components.

    Parameters
    ----------
    bits : float
        Bits for each window; rounded down.
    """

    def __init__(self, bits: float) -> None:
        self.bits = math.floor(bits)
        self.levels = [gaussian_levels(b) for b in range(_MOST_BITS + 1)]
        self.distortion = np.array([gaussian_distortion(levels) for levels in self.levels])

    def fit(self, bands: np.ndarray) -> EqualRatePCA:
        """Fit and return this object.

        Parameters
        ----------
        bands : array of shape (windows, bands, channels, time)
            Single (not cumulative) bands, in uV.
        """
        bands = np.asarray(bands, dtype=np.float32)
        self.rms = np.sqrt((bands.astype(np.float64) ** 2).mean(axis=(0, 2, 3)))[:, None, None]
        flat = (bands / self.rms).reshape(len(bands), -1).astype(np.float32)
        self.mean = flat.mean(axis=0)
        flat = flat - self.mean
        # There are more values than windows, so the small Gram matrix of the windows gives all components.
        values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
        order = np.argsort(values)[::-1][: min(self.bits, len(values) - 1)]
        self.variances = np.maximum(values[order], 1e-12) / len(flat)
        self.components = (vectors[:, order].T / np.sqrt(np.maximum(values[order], 1e-12))[:, None]) @ flat
        self.spent = spread_bits(self.variances, self.bits, self.distortion)
        return self

    def reconstruct(self, bands: np.ndarray) -> np.ndarray:
        """Return the coded and decoded bands, array of shape (windows, bands, channels, time) in uV."""
        bands = np.asarray(bands)
        scores = ((bands / self.rms).reshape(len(bands), -1) - self.mean) @ self.components.T
        units = scores / np.sqrt(self.variances)
        for component, count in enumerate(self.spent):
            levels = self.levels[count]
            nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, units[:, component])
            units[:, component] = levels[nearest]
        flat = (units * np.sqrt(self.variances)) @ self.components + self.mean
        return flat.reshape(bands.shape) * self.rms


def explained(true: np.ndarray, coded: np.ndarray) -> tuple[list[float], float]:
    """Compute the fraction of power explained.

    Parameters
    ----------
    true, coded : array of shape (windows, bands, channels, time)
        Single bands, in uV.

    Returns
    -------
    by_band : list of float
        Fraction explained in each band.
    whole : float
        Fraction explained in the sum of the bands.
    """
    true, coded = np.asarray(true, np.float64), np.asarray(coded, np.float64)
    by_band = 1 - ((coded - true) ** 2).mean(axis=(0, 2, 3)) / (true**2).mean(axis=(0, 2, 3))
    whole, given = true.sum(axis=1), coded.sum(axis=1)
    return by_band.tolist(), float(1 - ((given - whole) ** 2).mean() / (whole**2).mean())
