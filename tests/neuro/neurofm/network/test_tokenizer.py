"""Tokens of bins: those of attention over every unit's token, however they are computed."""

from __future__ import annotations

import torch

from nbkit.neuro.neurofm.network.tokenizer import SpikeTokenizer


def inputs(batch=3, bins=7, units=11, dim=16):
    draws = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((batch, bins, units), 0.7), generator=draws)
    vectors = torch.randn(batch, units, dim, generator=draws)
    seen = torch.rand(batch, units, generator=draws) < 0.7
    return counts, vectors, seen, torch.tensor([0, 1, 2])


def made() -> SpikeTokenizer:
    torch.manual_seed(1)
    tokenizer = SpikeTokenizer(16, 2, kinds=2, queries=3)
    torch.nn.init.normal_(tokenizer.kind_key_embed, std=0.3)
    torch.nn.init.normal_(tokenizer.kind_value_embed, std=0.3)
    return tokenizer


def test_tokens_are_those_of_attention_spelt_out():
    tokenizer, (counts, vectors, seen, kind) = made(), inputs()
    got = tokenizer(counts, vectors, seen, kind)
    for row in range(3):
        key, value = tokenizer.key.weight.T, tokenizer.value.weight.T
        if kind[row]:
            key, value = key + tokenizer.kind_key_embed[kind[row]], value + tokenizer.kind_value_embed[kind[row]]
        for bin_ in range(7):
            tokens = vectors[row][seen[row]] * counts[row, bin_][seen[row]].sqrt()[:, None]  # one token a unit
            read = []
            for query in tokenizer.query_embed:
                for head in (slice(0, 8), slice(8, 16)):
                    weight = torch.softmax((tokens @ key)[:, head] @ query[head] / 8**0.5, dim=0)
                    read.append(weight @ (tokens @ value)[:, head])
            pooled = torch.cat(read) * seen[row].sum().sqrt()
            assert torch.allclose(got[row, bin_], tokenizer.norm(tokenizer.join(pooled)), atol=1e-5)


def test_unseen_units_are_not_read_and_order_does_not_matter():
    tokenizer, (counts, vectors, seen, kind) = made().double(), inputs()
    counts, vectors = counts.double(), vectors.double()
    got = tokenizer(counts, vectors, seen, kind)
    other = torch.where(seen[:, None], counts, counts + 5)
    assert torch.equal(tokenizer(other, vectors, seen, kind), got)
    order = torch.randperm(11)
    assert torch.allclose(tokenizer(counts[:, :, order], vectors[:, order], seen[:, order], kind), got, atol=1e-12)
    nobody = tokenizer(counts, vectors, torch.zeros_like(seen), kind)
    assert torch.isfinite(nobody).all()


def test_a_kind_never_seen_takes_the_shared_keys():
    tokenizer, (counts, vectors, seen, _) = made(), inputs()
    before = tokenizer(counts, vectors, seen, torch.zeros(3, dtype=torch.long))
    torch.nn.init.normal_(tokenizer.kind_key_embed, std=9.0)
    assert torch.equal(tokenizer(counts, vectors, seen, torch.zeros(3, dtype=torch.long)), before)
    assert not torch.allclose(tokenizer(counts, vectors, seen, torch.ones(3, dtype=torch.long)), before)
