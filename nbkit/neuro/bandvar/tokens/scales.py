"""Scales: the number of tokens of a window, and the attention mask between those of its bands.

Each band is one scale; its tokens code this band and nothing else. A token may attend to its own scale and to earlier
scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_count(seconds: float, a_second: float, bands: int) -> int:
    """Return the number of tokens of a window over all bands, at least one a band.

    Examples
    --------
    >>> token_count(5.0, 21.0, 5), token_count(2.0, 21.0, 5), token_count(0.1, 21.0, 5)
    (105, 42, 5)
    """
    if not a_second > 0:
        raise ValueError(f"tokens_a_second={a_second} must be above 0.")
    return max(bands, round(seconds * a_second))


def scale_of_token(lengths: Sequence[int]) -> Tensor:
    """Return the scale of each token, int64 of shape (tokens,), from 0."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(list(lengths)))


def scale_slices(lengths: Sequence[int]) -> list[slice]:
    """Return the slice of each scale in the sequence of all tokens."""
    ends = torch.tensor(list(lengths)).cumsum(0).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def block_causal_mask(lengths: Sequence[int]) -> Tensor:
    """Return the attention mask, bool of shape (tokens, tokens).

    Element (i, j) is True where token i may attend to token j, which is where the scale of j is not later.
    """
    scale = scale_of_token(lengths)
    return scale[:, None] >= scale[None, :]


def active_scales(step: int, steps: int, scales: int, until: float, first: int = 1, rise: int = 0) -> tuple[int, float]:
    """Return the number of scales trained at a step, and the weight of the newest.

    Progressive training starts with the first scales and adds one scale at equal intervals, until all scales are
    trained after the fraction ``until`` of the training. The weight of the newest scale in the loss rises from 0 to 1
    over half an interval, or over ``rise`` steps.

    Parameters
    ----------
    step, steps : int
        Current step, and number of steps of the training.
    scales : int
        Number of scales.
    until : float
        Fraction of the training after which all scales are trained; 0 trains all from the start.
    first : int
        Number of scales trained from the start.
    rise : int
        Steps over which the weight of a new scale rises; 0 for half an interval.

    Returns
    -------
    count : int
        Number of scales trained, from 1 to ``scales``.
    weight : float
        Weight of the newest scale, above 0 and up to 1.
    """
    first = max(1, first)
    if until <= 0 or scales <= first:
        return scales, 1.0
    interval = until * steps / (scales - first + 1)
    count = min(scales, first + int(step / interval))
    if count == first:
        return count, 1.0
    since = step - (count - first) * interval
    return count, min(1.0, (since + 1) / max(1.0, rise or 0.5 * interval))


def scale_weights(lengths: Sequence[int], count: int, newest: float) -> Tensor:
    """Return the weight of each token in the loss, with mean 1.

    Parameters
    ----------
    lengths : sequence of int
        Number of tokens of each scale.
    count : int
        Number of scales trained.
    newest : float
        Weight of the newest scale relative to the others.

    Returns
    -------
    weights : Tensor of shape (tokens of the first ``count`` scales,)
    """
    scale = scale_of_token(lengths[:count])
    weight = torch.where(scale == count - 1, newest, 1.0)
    return weight / weight.mean()
