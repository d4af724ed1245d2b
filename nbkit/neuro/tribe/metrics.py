"""Correlation over time between predicted and true responses.

The correlation of an output is NaN if its response or prediction is constant; means leave it out. Values are centred
over time before anything is averaged.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pearson_over_time(predicted: np.ndarray, true: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Compute each vertex's Pearson correlation over time, as ``numpy.corrcoef`` does.

    Parameters
    ----------
    predicted, true : ndarray of shape (time, vertices)
    valid : bool array of shape (time,), optional
        Time points to use; by default all.

    Returns
    -------
    r : ndarray of shape (vertices,)
        NaN where either is constant or not finite.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise ValueError(
            f"Shapes differ: predicted {predicted.shape}, true {true.shape}; both must be (time, vertices)."
        )
    if valid is not None:
        predicted, true = predicted[valid], true[valid]
    sums = PearsonSums(true.shape[1])
    sums.add(torch.as_tensor(predicted)[None], torch.as_tensor(true)[None])
    return sums.r().numpy()


class PearsonSums:
    """Accumulate a correlation over batches, as sums in float64 of values shifted by the first batch's mean.

    Parameters
    ----------
    vertices : int
    device : torch.device or str
    """

    def __init__(self, vertices: int, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(6, vertices, dtype=torch.float64, device=device)
        self.shift: tuple[Tensor, Tensor] | None = None  # a large mean would cost the variance precision

    def add(self, predicted: Tensor, true: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predicted, true : Tensor of shape (batch, time, vertices)
        valid : Tensor of shape (batch, time), bool, optional
            Time points to use; by default all.
        """
        x, y = predicted.detach().flatten(0, 1).double(), true.detach().flatten(0, 1).double()
        if valid is not None:
            x, y = x[valid.flatten()], y[valid.flatten()]
        if not len(x):
            return
        if self.shift is None:
            self.shift = x.mean(0), y.mean(0)
        x, y = x - self.shift[0], y - self.shift[1]
        self.sums += torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]).sum(1)

    def truth_moves(self) -> bool:
        """Return whether the true response of any vertex varies; otherwise there is no score."""
        n, _, y, _, yy, _ = self.sums
        return bool((yy - y * y / n.clamp_min(1) > 1e-12).any())

    def r(self) -> Tensor:
        """Return each vertex's correlation so far, shape (vertices,); NaN where it is undefined."""
        n, x, y, xx, yy, xy = self.sums
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        tiny = 1e-12
        alive = (spread_x > tiny * xx.clamp_min(tiny)) & (spread_y > tiny * yy.clamp_min(tiny))
        r = (xy - x * y / n) / (spread_x * spread_y).clamp_min(1e-300).sqrt()
        return torch.where(alive, r, torch.nan)


def mean_r(r: np.ndarray | Tensor, kept: np.ndarray | None = None) -> float:
    """Return the mean over vertices that have a correlation; NaN if none has.

    Parameters
    ----------
    r : array of shape (vertices,)
    kept : bool array of shape (vertices,), optional
        Vertices to use; by default all.
    """
    values = np.asarray(r, np.float64)
    values = values if kept is None else values[kept]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def mean_r_by_group(r: np.ndarray, group: np.ndarray, names: list[str] | tuple[str, ...]) -> dict[str, float]:
    """Return the mean r of each network or region.

    Parameters
    ----------
    r : ndarray of shape (vertices,)
    group : int array of shape (vertices,)
        Group number of each vertex; below 0 for none.
    names : sequence of str
        Names of the groups, in order.

    Returns
    -------
    means : dict of str to float
    """
    group = np.asarray(group)
    return {name: mean_r(r, group == number) for number, name in enumerate(names)}


def noise_ceiling(repeats: np.ndarray) -> np.ndarray:
    """Compute the r that a perfect prediction of the repeated response would reach in one repeat.

    The mean correlation between repeats is rho; the true signal correlates sqrt(rho) with each (Spearman-Brown).

    Parameters
    ----------
    repeats : ndarray of shape (repeats, time, vertices)
        Responses to the same stimulus, 2 repeats or more.

    Returns
    -------
    ceiling : ndarray of shape (vertices,)
        NaN where the repeats do not correlate above zero.

    Raises
    ------
    ValueError
        If there are fewer than 2 repeats.
    """
    if len(repeats) < 2:
        raise ValueError(f"Too few repeats: {len(repeats)}; a noise ceiling needs the same stimulus at least twice.")
    pairs = [pearson_over_time(repeats[i], repeats[j]) for i in range(len(repeats)) for j in range(i + 1, len(repeats))]
    rho = np.mean(pairs, axis=0)
    return np.sqrt(np.where(rho > 0, rho, np.nan))


def ceiling_fraction(r: np.ndarray, ceiling: np.ndarray | float) -> float:
    """Return the mean of r divided by the mean of the noise ceiling, over vertices that have both.

    A mean of ratios would be dominated by vertices with a ceiling near zero.
    """
    r, ceiling = np.asarray(r, np.float64), np.broadcast_to(np.asarray(ceiling, np.float64), np.shape(r))
    both = np.isfinite(r) & np.isfinite(ceiling) & (ceiling > 0)
    return float(r[both].mean() / ceiling[both].mean()) if both.any() else float("nan")
