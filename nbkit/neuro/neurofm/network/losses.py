"""Losses over spikes and what they are measured in.

A mean is over what counts (hidden units that are there, windows that have a behaviour), weighted by the curriculum;
with nothing to count it is 0, not 0 / 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def poisson_nll(log_counts: Tensor, counts: Tensor) -> Tensor:
    """Return each count's negative log-likelihood in nat, without the factorial, which no prediction changes.

    Parameters
    ----------
    log_counts : Tensor
        Log expected count.
    counts : Tensor
        Of the same shape; sizes of imaging events, which are no whole numbers, give the quasi-likelihood.
    """
    return log_counts.exp() - counts * log_counts


def mean_where(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean, without asking the accelerator how much there is; 0 where all weights are."""
    weight = weight.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def bits_per_spike(nll: Tensor, mean_rate_nll: Tensor, spikes: Tensor) -> Tensor:
    """Return how much better than a unit's mean rate its counts are foretold (Pei et al. 2021, arXiv:2109.04463).

    Parameters
    ----------
    nll, mean_rate_nll : Tensor
        Sums of `poisson_nll` under the model and under mean rates from training data.
    spikes : Tensor
        How many there were.
    """
    return (mean_rate_nll - nll) / spikes.clamp(min=1) / math.log(2)


def info_nce(first: Tensor, second: Tensor, temperature: float, weight: Tensor) -> Tensor:
    """Return the contrastive loss of pairs among a batch's others (van den Oord et al. 2018, arXiv:1807.03748).

    Parameters
    ----------
    first, second : Tensor of shape (pairs, width)
        On the unit sphere.
    temperature : float
    weight : Tensor of shape (pairs,)
        0 for what is no pair: such a row is neither asked nor among the others.
    """
    score = first @ second.T / temperature
    no_pair = weight == 0
    others = ~torch.eye(len(score), dtype=torch.bool, device=score.device)
    score = score.masked_fill((no_pair[None] | no_pair[:, None]) & others, -1e4)
    target = torch.arange(len(score), device=score.device)
    both = F.cross_entropy(score, target, reduction="none") + F.cross_entropy(score.T, target, reduction="none")
    return mean_where(both / 2, weight)
