"""Adapters: what they add is checked by hand, and the check for dead ones finds those that are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nbkit.neuro.nn.attention import Block
from nbkit.neuro.nn.lora import (
    add_lora,
    dead_adapters,
    lora_parameters,
    merge_lora,
    quantise_4bit,
)


class Small(nn.Module):
    """Two layers that are called, one whose weights are read, one that is not used; a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 64), nn.GELU(), nn.Linear(64, 64))
        self.read = nn.Linear(64, 64)
        self.idle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(F.linear(self.body(x), self.read.weight, self.read.bias))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def _step(module, x, optimiser):
    optimiser.zero_grad()
    F.cross_entropy(module(x), torch.arange(len(x)) % 3).backward()
    dead = dead_adapters(module)
    optimiser.step()
    return dead


def test_adapters_add_a_product_of_two_matrices(small):
    x = torch.randn(5, 12)
    before = small(x)
    report = add_lora(small, ["body.0", "body.2"], r=4, alpha=12)
    assert torch.equal(small(x), before)  # B starts at zero
    assert report.adapters == ("body.0", "body.2") and report.trained == 4 * (12 + 64 + 64 + 64)
    assert set(lora_parameters(small)) == {n for n, p in small.named_parameters() if p.requires_grad}
    layer = small.body[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    by_hand = x @ (layer.base_layer.weight + 12 / 4 * b @ a).T + layer.base_layer.bias
    torch.testing.assert_close(layer(x), by_hand, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_adapters():
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        module = Small()
        state = torch.random.get_rng_state()
        add_lora(module, ["body.0"], seed=seed)
        assert torch.equal(torch.random.get_rng_state(), state)  # and draws nothing from the training's own
        found.append(lora_parameters(module)["body.0.lora_A.default.weight"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_dead_adapters_are_told_from_those_that_wait(small):
    add_lora(small, ["body.0", "read", "idle"], r=4, alpha=8)
    small.head.requires_grad_(True)
    optimiser = torch.optim.SGD([p for p in small.parameters() if p.requires_grad], lr=0.5)
    x = torch.randn(6, 12)
    truth = [f"{layer}.lora_{which}.default.weight" for layer in ("read", "idle") for which in "AB"]
    dead = _step(small, x, optimiser)
    waiting = lora_parameters(small)["body.0.lora_A.default.weight"]
    assert not waiting.grad.any() and sorted(dead) == sorted(truth)
    assert sorted(_step(small, x, optimiser)) == sorted(truth)
    assert waiting.grad.any()
    optimiser.zero_grad(set_to_none=False)
    small.body[0].lora_A["default"].weight.grad.zero_()  # zeros beside a B that has left zero: dead
    assert "body.0.lora_A.default.weight" in dead_adapters(small)


def test_merged_is_unmerged_and_frozen_is_frozen(small):
    add_lora(small, ["body.0", "body.2"])
    frozen = {n: p.detach().clone() for n, p in small.named_parameters() if not p.requires_grad}
    optimiser = torch.optim.AdamW([p for p in small.parameters() if p.requires_grad], lr=0.05)
    x = torch.randn(6, 12)
    first = small(x)
    for _ in range(5):
        assert _step(small, x, optimiser) == []
    assert all(torch.equal(value, dict(small.named_parameters())[name]) for name, value in frozen.items())
    after = small(x)
    assert (after - first).abs().max() > 0.1
    assert merge_lora(small) == ["body.0", "body.2"]
    torch.testing.assert_close(small(x), after, atol=1e-5, rtol=1e-5)
    assert set(small.state_dict()) == set(Small().state_dict())


def test_4_bit_weights_train_their_adapters_on_a_cpu(small):
    pytest.importorskip("bitsandbytes")
    small.read = nn.Identity()
    small.forward = lambda x: small.head(small.body(x))
    x = torch.randn(6, 12)
    full = small(x)
    weight = small.body[2].weight.detach().clone()
    report = quantise_4bit(small)
    assert report.layers == ("body.0", "body.2", "idle") and report.kept == ("head",)
    assert report.rounded == 12 * 64 + 2 * 64 * 64
    rounded = small(x)
    assert 0 < (rounded - full).abs().max() < 0.5 * full.abs().max()
    # nf4: 16 levels of a block of 64's largest absolute value; the widest gap is 0.304 of it
    from bitsandbytes.functional import dequantize_4bit

    read = dequantize_4bit(small.body[2].weight.data, small.body[2].weight.quant_state)
    blocks = weight.flatten().unflatten(0, (-1, 64)).abs().amax(1, keepdim=True).expand(-1, 64).reshape(weight.shape)
    assert ((read - weight).abs() <= 0.16 * blocks).all() and not torch.equal(read, weight)

    added = add_lora(small, ["body.0", "body.2"], r=4)
    assert added.trained + added.frozen == sum(p.numel() for n, p in Small().named_parameters() if "read" not in n) + (
        4 * (12 + 64 + 64 + 64)
    )
    torch.testing.assert_close(small(x), rounded)
    packed = {n: p.detach().clone() for n, p in small.named_parameters() if not p.requires_grad}
    small.head.requires_grad_(True)
    optimiser = torch.optim.AdamW([p for p in small.parameters() if p.requires_grad], lr=0.02)
    for _ in range(3):
        assert _step(small, x, optimiser) == []
    small.eval()
    with torch.no_grad():
        after = small(x)
    kept = {n: p for n, p in small.named_parameters() if n in packed and not n.startswith("head")}
    assert all(torch.equal(packed[name], p) for name, p in kept.items())
    merge_lora(small)
    torch.testing.assert_close(small(x), after, atol=1e-4, rtol=1e-4)
    assert type(small.body[0]) is nn.Linear


def test_our_own_blocks_call_their_projections():
    torch.manual_seed(0)
    block = Block(16, 4)
    report = add_lora(block, ["qkv", "proj"], r=2)
    block(torch.randn(2, 5, 16)).square().sum().backward()
    assert len(report.adapters) == 2 and dead_adapters(block) == []


def test_refuses_targets_that_are_none():
    attention = nn.Sequential(nn.Linear(8, 8), nn.MultiheadAttention(8, 2))
    with pytest.raises(ValueError, match=r"no linear layer 'qkv'.*it has 0, 1.out_proj"):
        add_lora(attention, ["qkv"])
    with pytest.raises(ValueError, match="never calls it"):
        add_lora(attention, ["out_proj"])
    with pytest.raises(ValueError, match="no adapters"):
        dead_adapters(attention)
    with pytest.raises(ValueError, match="No linear layer"):
        quantise_4bit(nn.Sequential(nn.Conv1d(1, 1, 1)))
