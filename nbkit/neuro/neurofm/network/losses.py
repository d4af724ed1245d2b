"""Losses for spike counts, and their units.

Means are over the relevant elements only (masked units, windows with a behaviour), with the weights of the curriculum.
A mean over nothing is 0, not NaN.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def poisson_nll(log_counts: Tensor, counts: Tensor) -> Tensor:
    """Return the Poisson negative log-likelihood of each count in nats, without the constant factorial term.

    Parameters
    ----------
    log_counts : Tensor of any shape
        Log expected counts.
    counts : Tensor of the same shape
        For sizes of imaging events, which are not integers, the result is the quasi-likelihood.
    """
    return log_counts.exp() - counts * log_counts


def activity_nll(predicted: Tensor, counts: Tensor, trace: Tensor | None = None) -> Tensor:
    """Return the negative log-likelihood of the activity of each unit and bin, in nats, without constants.

    Parameters
    ----------
    predicted : Tensor of shape (batch, bins, units)
        Log expected counts (Poisson), or for traces the expected value (Gaussian with variance 1, because traces are
        standardised).
    counts : Tensor of the same shape
    trace : bool Tensor of shape (batch,), optional
        Windows of standardised traces; by default none.
    """
    if trace is None:
        return poisson_nll(predicted, counts)
    # No exp of a trace's prediction may reach the gradient: where() would turn an overflow into NaN.
    safe = torch.where(trace[:, None, None], 0.0, predicted)
    return torch.where(trace[:, None, None], (predicted - counts).square() / 2, poisson_nll(safe, counts))


def mean_where(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean, or 0 if all weights are 0, without a synchronisation with the accelerator."""
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def bits_per_spike(nll: Tensor, mean_rate_nll: Tensor, spikes: Tensor) -> Tensor:
    """Return the improvement in bit/spike over mean rates of the units (Pei et al. 2021, arXiv:2109.04463).

    Parameters
    ----------
    nll, mean_rate_nll : Tensor of shape ()
        Sums of `poisson_nll` for the model and for mean rates, in nats. With mean rates of the training data the gain
        includes what the rates drifted since; the Neural Latents Benchmark uses `evaluated_mean_nll` instead.
    spikes : Tensor of shape ()
        Number of spikes.
    """
    return (mean_rate_nll - nll) / spikes.clamp(min=1) / math.log(2)


def evaluated_mean_nll(spikes: Tensor, cells: Tensor) -> Tensor:
    """Return the summed NLL of predicting each unit by its mean over the evaluated bins: the null model of the NLB.

    It knows the mean of the spikes that it predicts, so it is a stricter null model than mean rates of training data.

    Parameters
    ----------
    spikes, cells : Tensor of shape (units,)
        Number of spikes and of evaluated bins of each unit.
    """
    spikes = spikes.double()
    return (spikes - torch.xlogy(spikes, spikes / cells.double().clamp(min=1))).sum()


def info_nce(first: Tensor, second: Tensor, temperature: float, weight: Tensor) -> Tensor:
    """Return the InfoNCE loss of pairs, with the rest of the batch as negatives (van den Oord et al. 2018).

    See arXiv:1807.03748. The loss is the mean of both directions.

    Parameters
    ----------
    first, second : Tensor of shape (pairs, width)
        Embeddings on the unit sphere.
    temperature : float
        Divisor of the inner products.
    weight : Tensor of shape (pairs,)
        Weight of each pair. Rows with weight 0 are not pairs; they are not used as negatives either.
    """
    score = first @ second.T / temperature
    no_pair = weight == 0
    others = ~torch.eye(len(score), dtype=torch.bool, device=score.device)
    score = score.masked_fill((no_pair[None] | no_pair[:, None]) & others, -1e4)
    target = torch.arange(len(score), device=score.device)
    both = F.cross_entropy(score, target, reduction="none") + F.cross_entropy(score.T, target, reduction="none")
    return mean_where(both / 2, weight)
