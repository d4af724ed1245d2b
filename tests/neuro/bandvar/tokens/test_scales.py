"""Scales: token counts, who sees whom, and what comes in when."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.bandvar.tokens.scales import (
    active_scales,
    block_causal_mask,
    scale_of_token,
    scale_slices,
    scale_weights,
    token_count,
)


def test_a_window_has_as_many_tokens_as_its_seconds_ask_for():
    assert [token_count(seconds, 21.0, 5) for seconds in (5.0, 2.0, 0.1)] == [105, 42, 5]
    with pytest.raises(ValueError, match="must be above 0"):
        token_count(2.0, 0.0, 5)


def test_mask_is_who_came_before():
    lengths = (2, 3, 4)
    scale = [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert scale_of_token(lengths).tolist() == scale
    expected = [[mine >= other for other in scale] for mine in scale]
    assert block_causal_mask(lengths).tolist() == expected
    assert [(s.start, s.stop) for s in scale_slices(lengths)] == [(0, 2), (2, 5), (5, 9)]


def test_scales_come_in_one_after_another():
    seen = [active_scales(step, 100, 5, until=0.5) for step in range(100)]
    counts = [count for count, _ in seen]
    assert counts == sorted(counts) and set(counts) == {1, 2, 3, 4, 5}
    assert [counts.index(n) for n in (1, 2, 3, 4, 5)] == [0, 10, 20, 30, 40]
    weights = [weight for count, weight in seen if count == 3]
    assert weights[0] == pytest.approx(0.2) and weights == sorted(weights) and weights[-1] == 1.0
    assert seen[50:] == [(5, 1.0)] * 50
    assert active_scales(0, 100, 5, until=0.0) == (5, 1.0)


def test_some_scales_can_be_there_from_the_start():
    seen = [active_scales(step, 100, 5, until=0.6, first=3, rise=5) for step in range(100)]
    assert [[count for count, _ in seen].index(n) for n in (3, 4, 5)] == [0, 20, 40]
    assert [weight for count, weight in seen if count == 4][:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert active_scales(0, 100, 5, until=0.5, first=9) == (5, 1.0)


def test_weights_of_tokens_mask_later_scales_and_keep_their_mean():
    weights = scale_weights((2, 3, 4), 2, 0.25)
    assert weights.shape == (5,) and weights.mean() == pytest.approx(1.0)
    torch.testing.assert_close(weights[2:] / weights[0], torch.full((3,), 0.25))
