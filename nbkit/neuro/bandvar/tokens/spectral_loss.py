"""A spectral loss: magnitudes of short-time Fourier transforms at several resolutions.

The same signal scores 0; phases play no part, which is what a squared error over time has already asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RESOLUTIONS = (32, 64, 128)  # samples in a segment: 0.3 to 1.3 s at 100 Hz
_FLOOR = 1e-3  # of a signal near 1


def stft_magnitudes(signal: Tensor, segment: int) -> Tensor:
    """Return the magnitudes of hann-windowed segments that overlap by three quarters.

    Parameters
    ----------
    signal : Tensor of shape (..., time)
    segment : int
        Samples in a segment.

    Returns
    -------
    magnitudes : Tensor of shape (..., segments, segment // 2 + 1)
    """
    window = torch.hann_window(segment, device=signal.device, dtype=signal.dtype)
    segments = signal.unfold(-1, segment, max(1, segment // 4)) * window
    spectrum = torch.fft.rfft(segments) / window.square().sum().sqrt()
    return (spectrum.real.square() + spectrum.imag.square() + _FLOOR**2).sqrt()


def spectral_loss(estimate: Tensor, target: Tensor, resolutions: Sequence[int] = RESOLUTIONS) -> Tensor:
    """Return the mean over resolutions of spectral convergence and log-magnitude distance.

    After Yamamoto et al. 2020 (https://arxiv.org/abs/1910.11480). Both signals should be near 1.

    Parameters
    ----------
    estimate, target : Tensor of shape (..., time)
    resolutions : sequence of int
        Segments in samples; those longer than the signal are left out.

    Returns
    -------
    loss : Tensor
        A scalar, without unit.
    """
    fitting = [segment for segment in resolutions if segment <= target.shape[-1]]
    if not fitting:
        raise ValueError(f"A signal of {target.shape[-1]} samples is shorter than all segments, {tuple(resolutions)}.")
    loss = estimate.new_zeros((), dtype=torch.float32)
    for segment in fitting:
        ours, wanted = stft_magnitudes(estimate.float(), segment), stft_magnitudes(target.float(), segment)
        loss = loss + (ours - wanted).norm() / wanted.norm() + (ours.log() - wanted.log()).abs().mean()
    return loss / len(fitting)
