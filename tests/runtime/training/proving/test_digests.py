"""Digests: equal if and only if the bits are, for every kind of tensor and nesting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from nbkit.runtime.training.proving.digests import of_tensor, tree

KINDS = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool,
    torch.complex64,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,)])
def test_one_bit_makes_another_digest(kind, shape):
    ones = torch.ones(shape, dtype=kind)
    assert of_tensor(ones) == of_tensor(ones.clone())
    if ones.numel():
        other = ones.clone()
        other.view(-1)[-1] = 0
        assert of_tensor(other) != of_tensor(ones)
    assert of_tensor(ones) != of_tensor(torch.ones((*shape, 1, 2), dtype=kind))


def test_layout_and_view_play_no_part_and_the_type_does():
    whole = torch.arange(12.0).reshape(3, 4)
    assert of_tensor(whole.T) == of_tensor(whole.T.contiguous())
    assert of_tensor(whole.to_sparse()) == of_tensor(whole)
    assert of_tensor(whole.half()) != of_tensor(whole.bfloat16())
    assert of_tensor(torch.tensor([float("nan"), 1.0])) == of_tensor(torch.tensor([float("nan"), 1.0]))


@dataclass
class Pair:
    x: torch.Tensor
    y: int


def test_a_nested_batch_has_a_name_for_every_leaf():
    batch = {"x": [torch.zeros(2), np.ones(2)], "who": ("a", 1), "pair": Pair(torch.tensor(2.0), 3), "f": print}
    found = dict(tree("batch", batch))
    assert list(found) == ["batch.x[0]", "batch.x[1]", "batch.who", "batch.pair.x", "batch.pair.y"]
    assert found["batch.pair.x"] == "2.0 (float32)" and found["batch.who"] == "('a', 1)"
    assert dict(tree("batch", {**batch, "x": [torch.zeros(2), np.zeros(2)]})) != found
