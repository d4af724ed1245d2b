"""Scales: how many tokens each band gets, and which token may see which.

Scale lengths are the bands' upper edges in Hz, a token each per 500 samples at 100 Hz: (4, 8, 13, 30, 50), 105 in all.
A token sees its own scale and the ones before it, never a later one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band

SAMPLES_A_LATENT = 10  # the encoder's stride
_HZ_OF_ALL = 50.0  # a band up to here gets a token for every latent


def scale_lengths(time_steps: int, bands: Sequence[Band] = DEFAULT_BANDS) -> tuple[int, ...]:
    """Return the tokens of each scale.

    Parameters
    ----------
    time_steps : int
        Samples in a window, a multiple of 10.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz; one scale each, and the last has a token for every latent.

    Raises
    ------
    ValueError
        If the window is no whole number of latents.

    Examples
    --------
    >>> scale_lengths(500)
    (4, 8, 13, 30, 50)
    >>> scale_lengths(200)
    (2, 3, 5, 12, 20)
    """
    latents, rest = divmod(int(time_steps), SAMPLES_A_LATENT)
    if rest or latents < 1:
        raise ValueError(
            f"A window of {time_steps} samples is not whole latents of {SAMPLES_A_LATENT} samples; make windows of "
            f"{max(1, latents) * SAMPLES_A_LATENT} or {(latents + 1) * SAMPLES_A_LATENT} samples (10_eeg_windows, "
            "WINDOW_S)."
        )
    inner = [min(latents, max(1, round(high / _HZ_OF_ALL * latents))) for _, high in bands[:-1]]
    return (*inner, latents)


def scale_of_token(lengths: Sequence[int]) -> Tensor:
    """Return each token's scale, int64 of shape (tokens,), from 0."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(list(lengths)))


def scale_slices(lengths: Sequence[int]) -> list[slice]:
    """Return where each scale lies in a sequence of all tokens."""
    ends = torch.tensor(list(lengths)).cumsum(0).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def block_causal_mask(lengths: Sequence[int]) -> Tensor:
    """Return who may see whom, bool of shape (tokens, tokens): row d sees column t where its scale is t's or later."""
    scale = scale_of_token(lengths)
    return scale[:, None] >= scale[None, :]


def active_scales(step: int, steps: int, scales: int, until: float) -> tuple[int, float]:
    """Return how many scales are trained at a step, and how far the newest has come in.

    Progressive training: the first scale alone at first, one more at equal intervals, all from the share ``until`` of
    the training on. The newest one's weight in the loss grows from 0 to 1 over half its interval.

    Parameters
    ----------
    step, steps : int
        Where the training is, and its length.
    scales : int
        In all.
    until : float
        Share of the training after which all scales are whole; 0 trains all from the start.

    Returns
    -------
    count : int
        1 to ``scales``.
    weight : float
        Of the newest, above 0 and up to 1.
    """
    if until <= 0 or scales == 1:
        return scales, 1.0
    interval = until * steps / scales
    count = min(scales, 1 + int(step / interval))
    if count == 1:
        return 1, 1.0
    since = step - (count - 1) * interval
    return count, min(1.0, (since + 1) / max(1.0, 0.5 * interval))


def scale_weights(lengths: Sequence[int], count: int, newest: float) -> Tensor:
    """Return each token's weight in the loss, shape (tokens of the first ``count`` scales,), their mean 1."""
    scale = scale_of_token(lengths[:count])
    weight = torch.where(scale == count - 1, newest, 1.0)
    return weight / weight.mean()
