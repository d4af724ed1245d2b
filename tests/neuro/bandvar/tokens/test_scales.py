"""Scales: token counts, who sees whom, and what comes in when."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.bandvar.tokens.scales import (
    active_scales,
    block_causal_mask,
    scale_lengths,
    scale_of_token,
    scale_slices,
    scale_weights,
)
from nbkit.neuro.signals.bands import effective_bands


def test_lengths_are_the_upper_edges_at_the_sheets_window():
    assert scale_lengths(500) == (4, 8, 13, 30, 50) and sum(scale_lengths(500)) == 105
    held_to_nyquist = effective_bands([(0.5, 4), (4, 8), (8, 13), (13, 30), (30, 50)], 100.0)
    assert scale_lengths(500, held_to_nyquist) == (4, 8, 13, 30, 50)


def test_lengths_follow_the_window_and_never_shrink():
    assert scale_lengths(200) == (2, 3, 5, 12, 20)
    for steps in range(10, 600, 10):
        lengths = scale_lengths(steps)
        assert min(lengths) >= 1 and list(lengths) == sorted(lengths) and lengths[-1] == steps // 10


@pytest.mark.parametrize("steps", [0, 5, 128])
def test_a_window_of_no_whole_latents_is_refused(steps):
    with pytest.raises(ValueError, match="not a whole number of latents"):
        scale_lengths(steps)


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


def test_weights_of_tokens_mask_later_scales_and_keep_their_mean():
    weights = scale_weights((2, 3, 4), 2, 0.25)
    assert weights.shape == (5,) and weights.mean() == pytest.approx(1.0)
    torch.testing.assert_close(weights[2:] / weights[0], torch.full((3,), 0.25))
