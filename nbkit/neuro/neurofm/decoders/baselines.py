"""Baseline decoders: a Wiener filter and a GRU.

All baselines are fitted to the training windows of one recording and decode the same bins of the same test windows. No
baseline uses bins outside the window that it decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from nbkit.neuro.training.brief import BestStep, fit_once

_RIDGES = 10.0 ** np.arange(-1, 6)
_TAPS = 5  # number of weights on each side


def fit_wiener(counts: np.ndarray, behaviour: np.ndarray, lags: int = 15) -> WienerFilter:
    """Fit a linear decoder on the counts of each bin and of ``lags`` bins before and after it.

    The ridge penalty is chosen on the last fifth of the windows. With more than 5 lags, neighbouring bins share a
    weight, so that each unit has about 11 weights for each output.

    Parameters
    ----------
    counts : ndarray of shape (windows, bins, units)
        Spike counts.
    behaviour : ndarray of shape (windows, bins, dims)
        Bins with NaN are left out.
    lags : int
        Number of bins on each side; less than the length of a window.

    Returns
    -------
    decoder : WienerFilter
    """
    design = _lagged(counts, lags)
    known = np.isfinite(behaviour).all(axis=2)
    cut = max(1, int(0.8 * len(counts)))
    first, last = known.copy(), known.copy()
    first[cut:], last[:cut] = False, False
    if not last.any():
        first = last = known
    best, least = _RIDGES[0], np.inf
    for ridge, weights in zip(_RIDGES, _ridge(design[first], behaviour[first], _RIDGES), strict=True):
        error = float(((design[last] @ weights - behaviour[last]) ** 2).mean())
        if error < least:
            best, least = ridge, error
    return WienerFilter(_ridge(design[known], behaviour[known], [best])[0], lags, float(best))


@dataclass(frozen=True)
class WienerFilter:
    """A fitted linear decoder.

    Attributes
    ----------
    weights : ndarray of shape (units * taps + 1, dims)
        The last row is the constant.
    lags : int
        Number of bins used before and after each bin.
    ridge : float
        Chosen ridge penalty.
    """

    weights: np.ndarray
    lags: int
    ridge: float

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Decode counts (windows, bins, units) to behaviour (windows, bins, dims), in the unit of the behaviour."""
        return _lagged(counts, self.lags) @ self.weights


class GRUDecoder(nn.Module):
    """Bidirectional GRU over spike counts with a linear output for each bin.

    Parameters
    ----------
    n_units, dims : int
        Number of units and of behaviour dimensions.
    width : int
        Hidden size of each direction.
    """

    def __init__(self, n_units: int, dims: int, width: int = 64) -> None:
        super().__init__()
        self.read = nn.GRU(n_units, width, batch_first=True, bidirectional=True)
        self.decode = nn.Linear(2 * width, dims)
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("scale", torch.ones(dims))

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Return standardised behaviour (windows, bins, dims) for counts (windows, bins, units)."""
        return self.decode(self.read(signed_root(counts))[0])

    @torch.no_grad()
    def decode_windows(self, counts: np.ndarray) -> np.ndarray:
        """Decode counts (windows, bins, units) to behaviour (windows, bins, dims), in the unit of the behaviour."""
        return (self(torch.as_tensor(counts, dtype=torch.float32)) * self.scale + self.mean).numpy()


def fit_gru(
    counts: np.ndarray, behaviour: np.ndarray, steps: int = 400, width: int = 64, lr: float = 3e-3, seed: int = 0
) -> GRUDecoder:
    """Train a GRU decoder with AdamW and dropout of whole units.

    The last tenth of the windows is held out, and the weights with the lowest error on it are kept.

    Parameters
    ----------
    counts : ndarray of shape (windows, bins, units)
        Spike counts.
    behaviour : ndarray of shape (windows, bins, dims)
        Bins with NaN are left out.
    steps : int
        Optimizer steps of 16 windows each.
    width : int
        Hidden size of each direction.
    lr : float
        Peak learning rate.
    seed : int
        Seed of weights and batches.

    Returns
    -------
    decoder : GRUDecoder
        In evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GRUDecoder(counts.shape[2], behaviour.shape[2], width)
        cut = max(1, int(0.9 * len(counts)))
        x, y = torch.as_tensor(counts, dtype=torch.float32), torch.as_tensor(behaviour, dtype=torch.float32)
        model.mean.copy_(torch.as_tensor(np.nanmean(behaviour[:cut], axis=(0, 1))))
        model.scale.copy_(torch.as_tensor(np.nanstd(behaviour[:cut], axis=(0, 1))).clamp(min=1e-6))
        y = (y - model.mean) / model.scale

        @torch.no_grad()
        def held_out_error() -> float:
            return float(_error(model(x[cut:]), y[cut:]))

        weights = dict(model.named_parameters())
        best = [BestStep(held_out_error, max(1, steps // 10), weights)] if cut < len(x) else []
        module = _GRUTraining(model, x[:cut], y[:cut], steps, lr)
        fit_once(module, range(steps), steps=steps, callbacks=best, gradient_clip_val=1.0)
        return model.eval()


class _GRUTraining(lightning.LightningModule):
    """Train a `GRUDecoder` on random windows, with a random tenth of the units hidden in each window."""

    def __init__(self, model: GRUDecoder, counts: torch.Tensor, behaviour: torch.Tensor, steps: int, lr: float) -> None:
        super().__init__()
        self.model, self.steps, self.lr = model, steps, lr
        self.counts, self.behaviour = counts, behaviour

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        # Draw here and not in the loader: Lightning prefetches batches, which would change the order of the draws.
        pick = torch.randint(len(self.counts), (16,))
        shown = (torch.rand(16, 1, self.counts.shape[2]) > 0.1) / 0.9
        return _error(self.model(self.counts[pick] * shown), self.behaviour[pick])

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def signed_root(values: torch.Tensor) -> torch.Tensor:
    """Return the square root of the size, with the sign: counts and traces such as dF/F alike get equal spread."""
    return values.sign() * values.abs().sqrt()


def _lagged(counts: np.ndarray, lags: int) -> np.ndarray:
    """Return the regression features, (windows, bins, features).

    They are the mean square roots of the counts at every tap, with zeros outside the window, and a constant.
    """
    windows, bins, units = counts.shape
    width = -(-lags // _TAPS)
    steps = [*range(-(lags // width) * width, lags + 1, width)]
    reach = lags + width
    sums = np.zeros((windows, bins + 2 * reach + 1, units))
    sums[:, reach + 1 : reach + 1 + bins] = np.sign(counts) * np.sqrt(np.abs(counts))
    sums = sums.cumsum(axis=1)
    firsts = [reach + step - (width - 1) // 2 for step in steps]
    parts = [
        (sums[:, first + width : first + width + bins] - sums[:, first : first + bins]) / width for first in firsts
    ]
    return np.concatenate([*parts, np.ones((windows, bins, 1))], axis=2)


def _ridge(design: np.ndarray, target: np.ndarray, ridges: np.ndarray | list[float]) -> list[np.ndarray]:
    """Return the weights for every ridge, from one decomposition; the constant, the last feature, is not penalised."""
    mean_in, mean_out = design[:, :-1].mean(axis=0), target.mean(axis=0)
    centred = design[:, :-1] - mean_in
    values, axes = np.linalg.eigh(centred.T @ centred)
    along = axes.T @ (centred.T @ (target - mean_out))
    out = []
    for ridge in ridges:
        weights = axes @ (along / (values.clip(min=0) + ridge)[:, None])
        out.append(np.concatenate([weights, (mean_out - mean_in @ weights)[None]]))
    return out


def _error(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    known = torch.isfinite(wanted)
    return ((decoded - wanted.nan_to_num()).square() * known).sum() / known.sum().clamp(min=1)
