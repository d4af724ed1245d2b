"""A behavioural variable, and its values in bins of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Behaviour:
    """A behavioural variable that was recorded together with the spikes.

    Attributes
    ----------
    times : ndarray of shape (samples,)
        In s, increasing, on the same clock as the spikes.
    values : ndarray of shape (samples, dims)
        NaN where the variable is not known.
    unit : str
        Unit of the values, such as ``"cm/s"``.
    circular : bool
        Whether it is an angle in rad (one dim): bins hold the circular mean, as cosine and sine.
    """

    times: np.ndarray
    values: np.ndarray
    unit: str
    circular: bool = False

    def __post_init__(self) -> None:
        times, values = np.asarray(self.times, float), np.asarray(self.values, float)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or times.shape != values.shape[:1]:
            raise ValueError(
                f"Behaviour has times {times.shape} and values {values.shape}; give times (samples,) and values "
                "(samples, dims)."
            )
        if len(times) == 0 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(
                f"Behaviour needs one sample or more at increasing times; these {len(times)} "
                f"{first_fall(times)}. Sort them, or remove duplicates."
            )
        if self.circular and values.shape[1] != 1:
            raise ValueError(f"A circular behaviour has one dim, an angle in rad; this has {values.shape[1]}.")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "values", values)

    def in_bins(self, edges: np.ndarray) -> np.ndarray:
        """Return the mean in each bin; bins between two close samples are interpolated.

        Parameters
        ----------
        edges : ndarray of shape (bins + 1,)
            In s.

        Returns
        -------
        values : ndarray of shape (bins, dims), or (bins, 2) with cosine and sine if circular
            NaN where no sample is near.
        """
        values = self.values
        if self.circular:
            values = np.concatenate([np.cos(values), np.sin(values)], axis=1)
        known = np.isfinite(values).all(axis=1)
        out = np.full((len(edges) - 1, values.shape[1]), np.nan)
        times, values = self.times[known], values[known]
        if len(times) == 0:
            return out
        place = np.searchsorted(edges, times, side="right") - 1
        inside = (place >= 0) & (place < len(out))
        count = np.bincount(place[inside], minlength=len(out))
        for dim in range(values.shape[1]):
            total = np.bincount(place[inside], weights=values[inside, dim], minlength=len(out))
            np.divide(total, count, out=out[:, dim], where=count > 0)
        centres = (edges[1:] + edges[:-1]) / 2
        after = np.searchsorted(times, centres)
        gap = 2.5 * np.median(np.diff(times)) if len(times) > 1 else 0.0
        between = (count == 0) & (after > 0) & (after < len(times))
        between[between] &= times[after[between]] - times[after[between] - 1] <= gap
        for dim in range(values.shape[1]):
            out[between, dim] = np.interp(centres[between], times, values[:, dim])
        if self.circular:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out


def resting(values: np.ndarray, bin_s: float, least: float, smooth_s: float = 0.5) -> np.ndarray:
    """Return in which bins a behaviour is known and changes by less than ``least`` per second, bool (bins,).

    The speed is that of the values after smoothing with a Gaussian of ``smooth_s``, because tracked positions jitter;
    unknown bins are interpolated first.

    Parameters
    ----------
    values : ndarray of shape (bins, dims)
        NaN where not known; an angle as cosine and sine.
    bin_s : float
        Length of a bin, in s.
    least : float
        In the unit of the values per s.
    smooth_s : float
        Standard deviation of the Gaussian, in s.
    """
    from scipy.ndimage import gaussian_filter1d

    known = np.isfinite(values).all(axis=1)
    if known.sum() < 2:
        return known
    at = np.arange(len(values))
    filled = np.stack([np.interp(at, at[known], dim[known]) for dim in values.T], axis=1)
    smooth = gaussian_filter1d(filled, smooth_s / bin_s, axis=0, mode="nearest")
    return known & (np.linalg.norm(np.gradient(smooth, axis=0), axis=1) / bin_s < least)


def first_fall(times: np.ndarray) -> str:
    """Describe the first error in times."""
    times = np.asarray(times, float)
    if times.ndim != 1 or len(times) == 0:
        return f"are of shape {times.shape}"
    bad = ~np.isfinite(times)
    if bad.any():
        return f"hold {int(bad.sum())} that are not finite, the first at index {int(bad.argmax())}"
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls) == 0:
        return "do increase"
    place = int(falls[0])
    return f"go from {times[place]:.6g} to {times[place + 1]:.6g} s at index {place + 1}"
