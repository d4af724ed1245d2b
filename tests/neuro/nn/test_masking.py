"""Masks: exact counts, both halves together everything once."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.nn.masking import masked_count, random_mask


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_a_mask_and_its_complement_cover_every_token_once(ratio):
    torch.manual_seed(0)
    mask = random_mask(7, 21, ratio)
    assert mask.shape == (7, 21) and mask.dtype == torch.bool
    assert torch.equal(mask.int() + (~mask).int(), torch.ones(7, 21, dtype=torch.int))
    assert mask.sum(1).tolist() == [masked_count(21, ratio)] * 7
    assert len({tuple(row.tolist()) for row in mask}) == 7  # a row has a mask of its own


def test_every_token_is_masked_as_often():
    torch.manual_seed(0)
    share = torch.stack([random_mask(64, 10, 0.5) for _ in range(50)]).float().mean(dim=(0, 1))
    assert (share - 0.5).abs().max() < 0.05


@pytest.mark.parametrize(("ratio", "tokens"), [(0.0, 8), (1.0, 8), (0.5, 1)])
def test_a_ratio_that_masks_nothing_or_everything_is_refused(ratio, tokens):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        random_mask(2, tokens, ratio)


def test_some_are_masked_and_some_are_not():
    assert masked_count(3, 0.01) == 1 and masked_count(3, 0.99) == 2 and masked_count(258, 0.5) == 129
