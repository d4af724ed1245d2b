"""Losses against those of torch and scipy, and their zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from nbkit.neuro.neurofm.network.losses import bits_per_spike, info_nce, mean_where, poisson_nll


def test_poisson_is_scipys():
    counts, log_counts = torch.tensor([0.0, 3.0, 1.0]).double(), torch.tensor([-2.0, 1.5, 0.3]).double()
    ours = poisson_nll(log_counts, counts)
    theirs = -poisson.logpmf(counts.numpy(), np.exp(log_counts.numpy()))
    assert np.allclose(ours.numpy() - theirs, -torch.lgamma(counts + 1).numpy())
    assert torch.allclose(ours, torch.nn.functional.poisson_nll_loss(log_counts, counts, reduction="none"))


def test_bits_a_spike_are_those_of_the_likelihoods():
    draws = np.random.default_rng(0)
    rate = draws.uniform(0.1, 2.0, 5000)
    counts = draws.poisson(rate)
    ours = bits_per_spike(
        poisson_nll(torch.tensor(rate).log(), torch.tensor(counts)).sum(),
        poisson_nll(torch.tensor(counts.mean()).log().expand(5000), torch.tensor(counts)).sum(),
        torch.tensor(counts.sum()),
    )
    gain = poisson.logpmf(counts, rate).sum() - poisson.logpmf(counts, counts.mean()).sum()
    assert float(ours) == pytest.approx(gain / counts.sum() / math.log(2)) and ours > 0.1


def test_a_mean_over_nothing_is_zero_and_teaches_nothing():
    values = torch.ones(3, requires_grad=True)
    mean = mean_where(values, torch.zeros(3))
    mean.backward()
    assert mean == 0 and (values.grad == 0).all()
    assert mean_where(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 3.0])) == 4.0


def test_the_contrast_is_log_of_the_pairs_when_all_look_alike():
    same = torch.nn.functional.normalize(torch.ones(6, 4), dim=-1)
    assert info_nce(same, same, 0.1, torch.ones(6)) == pytest.approx(math.log(6))
    apart = torch.eye(6)
    assert info_nce(apart, apart, 0.1, torch.ones(6)) < 1e-3
    # a row that is no pair is neither asked nor among the others
    weight = torch.tensor([1.0, 1, 1, 1, 0, 0])
    assert info_nce(same, same, 0.1, weight) == pytest.approx(math.log(4))
