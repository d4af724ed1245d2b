"""Bayesian decoders from tuning curves: head direction, and position in a place.

They follow Zhang et al. (1998, doi 10.1152/jn.1998.79.2.1017): Poisson spikes, independent units, and the time spent in
each direction or place as the prior. A unit that was not observed in a bin adds nothing to the posterior of that bin.
The spikes of a few neighbouring bins are added, see `pooled`: in 250 ms a place cell fires too few.
"""

from __future__ import annotations

import numpy as np

_LEAST = 1e-3  # spikes per bin; a place where a unit never fired in training is unlikely, not impossible


class BayesianDirection:
    """Bayesian decoder of an angle from tuning curves.

    Parameters
    ----------
    counts : ndarray of shape (bins, units)
        Spike counts of the training bins.
    angle : ndarray of shape (bins,)
        In rad; bins with NaN are left out.
    sectors : int
        Number of angle bins of the circle.
    smooth : float
        Standard deviation of the Gaussian that smooths tuning curves and prior, in sectors.
    """

    def __init__(self, counts: np.ndarray, angle: np.ndarray, sectors: int = 60, smooth: float = 2.0) -> None:
        from scipy.ndimage import gaussian_filter1d

        known = np.isfinite(angle)
        place = (np.mod(angle[known], 2 * np.pi) / (2 * np.pi) * sectors).astype(int) % sectors
        stay = gaussian_filter1d(np.bincount(place, minlength=sectors).astype(float), smooth, mode="wrap")
        fired = np.stack([np.bincount(place, weights=unit, minlength=sectors) for unit in counts[known].T])
        fired = gaussian_filter1d(fired, smooth, axis=1, mode="wrap")
        self.tuning = (fired / np.maximum(stay, 1e-9)).T + _LEAST  # (sectors, units), spikes per bin
        self.prior = stay / stay.sum()
        self.angles = (np.arange(sectors) + 0.5) * 2 * np.pi / sectors

    def __call__(self, counts: np.ndarray, observed: np.ndarray | None = None) -> np.ndarray:
        """Return the circular mean of the posterior, in rad, for counts of shape (..., units).

        ``observed`` is of shape (..., units or 1): whether a bin was observed, or in how many bins the counts were
        made; by default 1.
        """
        posterior = _posterior(counts, self.tuning, self.prior, observed)
        return np.angle((posterior * np.exp(1j * self.angles)).sum(axis=-1))


class BayesianPosition:
    """Bayesian decoder of a position in one to three dims from place fields on a grid.

    Parameters
    ----------
    counts : ndarray of shape (bins, units)
        Spike counts of the training bins.
    position : ndarray of shape (bins, dims)
        In any unit; bins with NaN are left out.
    cells : int
        Cells of the grid along the longest dim; the others have cells of the same size.
    smooth : float
        Standard deviation of the Gaussian that smooths fields and prior, in cells.
    """

    def __init__(self, counts: np.ndarray, position: np.ndarray, cells: int = 40, smooth: float = 1.0) -> None:
        from scipy.ndimage import gaussian_filter

        known = np.isfinite(position).all(axis=1)
        counts, position = counts[known], position[known]
        low, high = position.min(axis=0), position.max(axis=0)
        size = max(float((high - low).max()) / cells, 1e-9)
        edges = [start + size * np.arange(int((end - start) / size) + 2) for start, end in zip(low, high, strict=True)]
        time = np.histogramdd(position, edges)[0]
        fired = np.stack([np.histogramdd(position, edges, weights=unit)[0] for unit in counts.T.astype(float)])
        stay = gaussian_filter(time, smooth)
        visited = gaussian_filter((time > 0).astype(float), smooth) > 0.05  # no decoding to where nobody has been
        fields = np.stack([gaussian_filter(unit, smooth) for unit in fired]) / np.maximum(stay, 1e-9)
        centres = np.meshgrid(*[(part[1:] + part[:-1]) / 2 for part in edges], indexing="ij")
        self.places = np.stack([part[visited] for part in centres], axis=1)  # (places, dims)
        self.fields = fields[:, visited].T + _LEAST  # (places, units), spikes per bin
        self.prior = stay[visited] / stay[visited].sum()

    def __call__(self, counts: np.ndarray, observed: np.ndarray | None = None) -> np.ndarray:
        """Return the mean of the posterior (..., dims) for counts (..., units)."""
        return _posterior(counts, self.fields, self.prior, observed) @ self.places


def pooled(counts: np.ndarray, observed: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of each bin with its ``reach`` neighbours on both sides, and in how many bins they were made.

    Bins outside the window add nothing.

    Parameters
    ----------
    counts : ndarray of shape (windows, bins, units)
    observed : bool ndarray of shape (windows, bins, units or 1)
    reach : int
    """
    bins = counts.shape[1]
    near = np.abs(np.arange(bins)[:, None] - np.arange(bins)) <= reach
    return near @ np.where(observed, counts, 0).astype(float), near @ observed.astype(float)


def _posterior(counts: np.ndarray, fields: np.ndarray, prior: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
    """Return the probability of each place, (..., places), for counts (..., units)."""
    expected = fields.sum(axis=1)
    if observed is not None:
        counts = np.where(observed > 0, counts, 0)
        expected = observed * expected if observed.shape[-1] == 1 else observed.astype(float) @ fields.T
    log = counts @ np.log(fields).T - expected + np.log(prior + 1e-12)
    posterior = np.exp(log - log.max(axis=-1, keepdims=True))
    return posterior / posterior.sum(axis=-1, keepdims=True)
