"""Spectral loss on short-time Fourier transform magnitudes at several resolutions.

The loss of identical signals is 0. It ignores phases, which the squared error over time already covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RESOLUTIONS = (32, 64, 128)  # samples in a segment: 0.3 to 1.3 s at 100 Hz
_FLOOR = 1e-3  # smallest magnitude, for signals of magnitude near 1; keeps the logarithm finite


def stft_magnitudes(signal: Tensor, segment: int) -> Tensor:
    """Return the Fourier magnitudes of Hann-windowed segments that overlap by three quarters.

    Parameters
    ----------
    signal : Tensor of shape (..., time)
    segment : int
        Length of a segment in samples.

    Returns
    -------
    magnitudes : Tensor of shape (..., segments, segment // 2 + 1)
    """
    window = torch.hann_window(segment, device=signal.device, dtype=signal.dtype)
    segments = signal.unfold(-1, segment, max(1, segment // 4)) * window
    spectrum = torch.fft.rfft(segments) / window.square().sum().sqrt()
    return (spectrum.real.square() + spectrum.imag.square() + _FLOOR**2).sqrt()


def spectral_loss(estimate: Tensor, target: Tensor, resolutions: Sequence[int] = RESOLUTIONS) -> Tensor:
    """Return the mean over resolutions of the spectral convergence plus the log-magnitude distance.

    The loss follows Yamamoto et al. 2020 (https://arxiv.org/abs/1910.11480).

    Parameters
    ----------
    estimate, target : Tensor of shape (..., time)
        Signals scaled to magnitudes near 1.
    resolutions : sequence of int
        Segment lengths in samples; segments longer than the signal are left out.

    Returns
    -------
    loss : Tensor of shape ()
        Without unit.
    """
    fitting = [segment for segment in resolutions if segment <= target.shape[-1]]
    if not fitting:
        raise ValueError(
            f"A signal of {target.shape[-1]} samples is shorter than all segments, {tuple(resolutions)} samples; give "
            "longer windows or a shorter segment."
        )
    loss = estimate.new_zeros((), dtype=torch.float32)
    for segment in fitting:
        ours, wanted = stft_magnitudes(estimate.float(), segment), stft_magnitudes(target.float(), segment)
        loss = loss + (ours - wanted).norm() / wanted.norm() + (ours.log() - wanted.log()).abs().mean()
    return loss / len(fitting)
