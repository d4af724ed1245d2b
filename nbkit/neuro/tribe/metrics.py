"""Correlation over time between predicted and true responses.

The correlation of an output is NaN if its response or prediction is constant; means leave it out. Values are centred
over time before anything is averaged.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torchmetrics import PearsonCorrCoef


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


class PearsonSums(PearsonCorrCoef):
    """Compute each vertex's correlation over batches, in float64: torchmetrics' metric, with time points left out.

    Parameters
    ----------
    vertices : int
    device : torch.device or str
    """

    def __init__(self, vertices: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_outputs=vertices)
        self.set_dtype(torch.float64).to(device)

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
        if len(x):
            self.update(x, y)

    @property
    def steps(self) -> int:
        """Number of time points so far."""
        return int(self.n_total.max())

    def truth_moves(self) -> bool:
        """Return whether the true response of any vertex varies; otherwise there is no score."""
        return bool((self.var_y > 1e-12).any())

    def r(self) -> Tensor:
        """Return each vertex's correlation so far, shape (vertices,); NaN where it is undefined."""
        tiny = 1e-24  # rounding leaves a little variance to a constant, and torchmetrics would divide by it
        alive = (self.var_x > tiny * (1 + self.mean_x**2)) & (self.var_y > tiny * (1 + self.mean_y**2))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The variance of predictions")  # NaN shows it
            return torch.where(alive, self.compute().reshape(-1), torch.nan)


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
