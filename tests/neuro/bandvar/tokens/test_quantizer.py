"""Quantisation: brute force, one band a scale, gradients, and a fit that is the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer
from nbkit.neuro.bandvar.tokens.transform import fit_codes

LENGTHS, SIZES = (2, 1, 2), (3, 2, 4, 1, 2)  # tokens of each band, and coefficients of each token


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    made = BandQuantizer(8, LENGTHS, SIZES).eval()
    for token, size in enumerate(SIZES):
        torch.nn.init.normal_(made.codebook[token, :, :size])
    made.spread.copy_(torch.rand(12) + 0.5)
    return made


def by_hand(quantizer, latents):
    tokens, coded, end = [], [], 0
    for token, size in enumerate(SIZES):
        group, book = latents[:, end : end + size], quantizer.codebook[token, :, :size]
        best = ((group[:, None] - book[None]) ** 2).sum(-1).argmin(1)
        tokens.append(best)
        coded.append(book[best])
        end += size
    return torch.stack(tokens, 1), torch.cat(coded, 1)


@torch.no_grad()
def test_quantisation_is_that_of_brute_force(quantizer):
    latents = torch.randn(20, 12)
    tokens, coded = by_hand(quantizer, latents)
    found = quantizer(latents)
    assert torch.equal(found.tokens, tokens)
    torch.testing.assert_close(found.partial_sums[-1][:, :, 0], coded)
    torch.testing.assert_close(found.loss, (((coded - latents) / quantizer.spread) ** 2).mean())


@torch.no_grad()
def test_the_tokens_of_a_band_are_that_band_and_nothing_else(quantizer):
    tokens = torch.randint(8, (4, 5))
    sums = quantizer.partial_sums(tokens)
    assert [int((s != 0).any(0).sum()) for s in sums] == [5, 9, 12]
    parts = [quantizer.embed(tokens[:, place], scale) for scale, place in enumerate(quantizer.slices)]
    for scale, summed in enumerate(sums):
        torch.testing.assert_close(summed, sum(parts[: scale + 1]))
    assert [(part != 0).any(0)[:, 0].nonzero()[:, 0].tolist() for part in parts] == [
        [0, 1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]
    ]  # fmt: skip
    assert len(quantizer.partial_sums(tokens[:, :4])) == 2  # one token of the last scale is no scale
    assert quantizer.partial_sums(tokens[:, :1]) == []


@torch.no_grad()
def test_the_inputs_of_a_scale_know_all_before_it_and_nothing_of_it(quantizer):
    tokens = torch.randint(8, (1, 5))
    inputs = quantizer.next_inputs(tokens)
    assert inputs.shape == (1, 3, 12)
    expected = quantizer.partial_sums(tokens)[0][:, :, 0] / quantizer.spread
    torch.testing.assert_close(inputs[:, 0], expected)
    changed = tokens.clone()
    changed[0, 2] = (changed[0, 2] + 1) % 8  # of scale 1
    assert torch.equal(quantizer.next_inputs(changed)[:, :1], inputs[:, :1])
    assert not torch.equal(quantizer.next_inputs(changed)[:, 1:], inputs[:, 1:])


def test_gradients_reach_the_codes_that_were_used(quantizer):
    found = quantizer(torch.randn(3, 12))
    found.partial_sums[-1].sum().backward()
    used = torch.zeros(5, 8, dtype=torch.bool)
    used[torch.arange(5)[None].expand(3, 5), found.tokens] = True
    assert torch.equal(quantizer.codebook.grad.abs().sum(-1) > 0, used)


def test_k_means_finds_planted_clusters_and_repeats_itself():
    draws = np.random.default_rng(0)
    samples = np.repeat([[4.0, 1.0], [1.0, 3.0]], 50, axis=0) + 0.01 * draws.normal(size=(100, 2))
    books = [fit_codes(samples, 16, np.random.default_rng(1), 800, 8) for _ in range(2)]
    np.testing.assert_array_equal(*books)
    corners = [[x * a, y * b] for x, y in ((4, 1), (1, 3)) for a in (-1, 1) for b in (-1, 1)]  # all signs
    nearest = np.linalg.norm(books[0][None] - np.array(corners)[:, None], axis=-1).min(axis=1)
    assert (nearest < 0.1).all()


def test_sizes_and_lengths_must_fit():
    with pytest.raises(ValueError, match="sizes of 2 tokens for 3"):
        BandQuantizer(4, (1, 2), (3, 3))
