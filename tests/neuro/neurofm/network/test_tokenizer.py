"""Tokens of bins: those of attention over every unit's token, however they are computed."""

from __future__ import annotations

import torch

from nbkit.neuro.neurofm.network.tokenizer import SpikeTokenizer


def inputs(batch=3, bins=7, units=11, dim=16):
    draws = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((batch, bins, units), 0.7), generator=draws)
    vectors = torch.randn(batch, units, dim, generator=draws)
    seen = torch.rand(batch, units, generator=draws) < 0.7
    return counts.sqrt(), vectors, seen[:, None], torch.tensor([0, 1, 2])


def made() -> SpikeTokenizer:
    torch.manual_seed(1)
    tokenizer = SpikeTokenizer(16, 2, kinds=2, queries=3)
    torch.nn.init.normal_(tokenizer.kind_key_embed, std=0.3)
    torch.nn.init.normal_(tokenizer.kind_value_embed, std=0.3)
    return tokenizer


def test_tokens_are_those_of_attention_spelt_out():
    tokenizer, (level, vectors, seen, kind) = made(), inputs()
    got = tokenizer(level, vectors, seen, kind)
    for row in range(3):
        key, value = tokenizer.key.weight.T, tokenizer.value.weight.T
        if kind[row]:
            key, value = key + tokenizer.kind_key_embed[kind[row]], value + tokenizer.kind_value_embed[kind[row]]
        for bin_ in range(7):
            tokens = vectors[row][seen[row, 0]] * level[row, bin_][seen[row, 0]][:, None]  # one token a unit
            read = []
            for query in tokenizer.query_embed:
                for head in (slice(0, 8), slice(8, 16)):
                    weight = torch.softmax((tokens @ key)[:, head] @ query[head] / 8**0.5, dim=0)
                    read.append(weight @ (tokens @ value)[:, head])
            pooled = torch.cat(read) * seen[row].sum().sqrt()
            assert torch.allclose(got[row, bin_], tokenizer.norm(tokenizer.join(pooled)), atol=1e-5)


def test_unseen_units_are_not_read_and_order_does_not_matter():
    tokenizer, (level, vectors, seen, kind) = made().double(), inputs()
    level, vectors = level.double(), vectors.double()
    got = tokenizer(level, vectors, seen, kind)
    other = torch.where(seen, level, level + 5)
    assert torch.equal(tokenizer(other, vectors, seen, kind), got)
    order = torch.randperm(11)
    assert torch.allclose(tokenizer(level[:, :, order], vectors[:, order], seen[:, :, order], kind), got, atol=1e-12)
    nobody = tokenizer(level, vectors, torch.zeros_like(seen), kind)
    assert torch.isfinite(nobody).all()


def test_a_kind_never_seen_takes_the_shared_keys():
    tokenizer, (level, vectors, seen, _) = made(), inputs()
    before = tokenizer(level, vectors, seen, torch.zeros(3, dtype=torch.long))
    torch.nn.init.normal_(tokenizer.kind_key_embed, std=9.0)
    assert torch.equal(tokenizer(level, vectors, seen, torch.zeros(3, dtype=torch.long)), before)
    assert not torch.allclose(tokenizer(level, vectors, seen, torch.ones(3, dtype=torch.long)), before)


def test_a_unit_that_was_not_observed_in_a_bin_is_as_if_it_were_not_there_in_that_bin():
    tokenizer, (level, vectors, seen, kind) = made().double(), inputs()
    level, vectors = level.double(), vectors.double()
    observed = torch.rand(level.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    got = tokenizer(level, vectors, seen & observed, kind)
    for bin_ in range(7):
        alone = tokenizer(level[:, bin_ : bin_ + 1], vectors, seen & observed[:, bin_ : bin_ + 1], kind)
        assert torch.allclose(got[:, bin_ : bin_ + 1], alone, atol=1e-12)
    silent = tokenizer(torch.where(observed, level, 0.0), vectors, seen, kind)
    assert not torch.allclose(silent, got), "what is not observed is not silence"
