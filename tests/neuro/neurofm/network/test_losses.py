"""Losses against those of torch and scipy, and their zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from nbkit.neuro.neurofm.network.losses import (
    activity_nll,
    bits_per_spike,
    evaluated_mean_nll,
    info_nce,
    mean_where,
    poisson_nll,
)


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


def test_the_null_model_of_the_benchmark_knows_the_mean_of_what_it_predicts():
    """As the Neural Latents Benchmark computes bits per spike (Pei et al. 2021), spelt out with scipy."""
    draws = np.random.default_rng(0)
    spikes = draws.poisson(draws.uniform(0.1, 2.0, 4), size=(50, 4)).astype(float)
    rates = np.exp(draws.normal(size=(50, 4)) * 0.3) * spikes.mean(axis=0)
    null = np.broadcast_to(spikes.mean(axis=0), spikes.shape)
    theirs = (poisson.logpmf(spikes, rates).sum() - poisson.logpmf(spikes, null).sum()) / spikes.sum() / np.log(2)
    nll = poisson_nll(torch.tensor(rates).log(), torch.tensor(spikes)).sum()
    by_mean = evaluated_mean_nll(torch.tensor(spikes.sum(axis=0)), torch.full((4,), 50.0))
    assert float(bits_per_spike(nll, by_mean, torch.tensor(spikes.sum()))) == pytest.approx(theirs, rel=1e-9)
    assert float(evaluated_mean_nll(torch.zeros(2), torch.tensor([50.0, 0.0]))) == 0.0  # silent, and never observed


def test_the_nll_of_a_trace_is_gaussian_and_that_of_counts_beside_it_poisson():
    told = torch.tensor([[[3.0, -9.0]], [[0.5, 90.0]]], requires_grad=True)
    counts = torch.tensor([[[2.0, 0.0]], [[-1.0, 1.0]]])
    trace = torch.tensor([False, True])
    nll = activity_nll(told, counts, trace)
    assert torch.allclose(nll[0], poisson_nll(told, counts)[0])
    wanted = torch.nn.functional.gaussian_nll_loss(told[1], counts[1], torch.ones_like(told[1]), reduction="none")
    assert torch.allclose(nll[1], wanted)
    nll.sum().backward()
    assert torch.isfinite(told.grad).all(), "no overflow of exp behind the choice"
