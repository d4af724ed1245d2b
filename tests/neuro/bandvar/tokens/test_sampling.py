"""Generating: the cache, guidance and the cuts change nothing they should not."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.bandvar.tokens.generator import NextScaleTransformer
from nbkit.neuro.bandvar.tokens.sampling import generate_tokens, guided, keep_likely
from tests.neuro.bandvar.tokens.random_quantizer import random_quantizer

LENGTHS = (2, 3, 10)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    model = NextScaleTransformer(LENGTHS, 16, 15, (2, 1, 1), depth=2, gate_init=1, modulation_init=1)
    torch.nn.init.normal_(model.head.weight, std=0.1)  # opinions, not equal chances
    return model, random_quantizer(LENGTHS)


def chosen(count=6):
    return torch.tensor([[1, 1, 1], [2, 1, 0], [0, 0, 0]]).repeat(count // 3, 1)


def seeded(number=0):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}, {"top_k": 5, "top_p": 0.8}, {"temperature": 0.0}])
def test_cached_is_uncached_token_for_token(pair, options):
    cached, plain = (generate_tokens(*pair, chosen(), generator=seeded(), cached=c, **options) for c in (True, False))
    assert cached.shape == (6, 15) and torch.equal(cached, plain)
    if options.get("temperature") != 0:
        assert not torch.equal(cached, generate_tokens(*pair, chosen(), generator=seeded(1), **options))


def test_guidance_one_is_none(pair):
    likely, guess = torch.randn(2, 3, 16), torch.randn(2, 3, 16)
    torch.testing.assert_close(guided(likely, guess, 1.0), likely)
    torch.testing.assert_close(guided(likely, guess, 0.0), guess)
    one, almost = (generate_tokens(*pair, chosen(), guidance=g, generator=seeded()) for g in (1.0, 1.0 + 1e-7))
    assert torch.equal(one, almost)  # the short way and the two passes
    assert not torch.equal(one, generate_tokens(*pair, chosen(), guidance=6.0, generator=seeded()))


def test_guidance_means_nothing_without_a_class(pair):
    without = torch.tensor([[0, 1, 1]]).repeat(6, 1)
    made = [generate_tokens(*pair, without, guidance=g, generator=seeded()) for g in (1.0, 4.0)]
    assert torch.equal(*made)


def plainly(row, top_k, top_p):
    """Keep codes one by one, likeliest first."""
    order = sorted(range(len(row)), key=lambda code: -row[code])
    if top_k:
        order = order[:top_k]
    total = sum(torch.tensor([row[c] for c in order]).exp().tolist())
    kept, reached = [], 0.0
    for code in order:
        if 0 < top_p < 1 and reached >= top_p:
            break
        kept.append(code)
        reached += torch.tensor(row[code]).exp().item() / total
    return sorted(kept)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.0), (3, 0.0), (0, 0.5), (0, 0.9), (6, 0.7), (1, 0.3), (99, 1.0)])
def test_cuts_are_those_of_a_plain_loop(top_k, top_p):
    logits = 2 * torch.randn(4, 5, 12, generator=seeded())
    kept = keep_likely(logits, top_k, top_p)
    for row, found in zip(logits.flatten(0, 1), kept.flatten(0, 1), strict=True):
        places = torch.nonzero(found.isfinite())[:, 0].tolist()
        assert places == plainly(row.tolist(), top_k, top_p)
        assert torch.equal(found[places], row[places])


def test_draws_have_the_models_chances(pair):
    model, quantizer = pair
    asked = torch.tensor([[1, 1, 1]]).repeat(4000, 1)
    tokens = generate_tokens(model, quantizer, asked, guidance=1.0, generator=seeded())
    with torch.no_grad():
        chances = model.eval().forward_scale(None, asked[:1], 0, model.caches())[0, 0].softmax(-1)
    share = torch.bincount(tokens[:, 0], minlength=16) / 4000
    assert (share - chances).abs().max() < 5 * (chances * (1 - chances) / 4000).sqrt().max()


def test_modes_are_given_back_and_wrong_cuts_refused(pair):
    model, quantizer = pair
    model.train(), quantizer.eval()
    generate_tokens(model, quantizer, chosen())
    assert model.training and not quantizer.training
    with pytest.raises(ValueError, match="top_p"):
        keep_likely(torch.zeros(3), top_p=1.5)
