"""What a decoder leaves out, and noise that has it.

A few hundred bits cannot hold 5 s of 64 channels, so a decoder gives the part it knows, and too little power. The rest
is described by its mean power at each frequency and its correlation between channels, both over training windows: that
is the covariance of a Gaussian decoder, and a draw from it is a sample of the decoder where the decoder alone is the
mean. It holds nothing of a class or a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.neuro.signals.bands import Band

_DECAY = 0.99


class MissingPower(nn.Module):
    """Keep running spectra of true and decoded windows, and draw noise of their difference.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz; channels are correlated in the same way within a band.
    sfreq : float
        Samples a second, in Hz.
    """

    def __init__(self, channels: int, time_steps: int, bands: Sequence[Band], sfreq: float) -> None:
        super().__init__()
        self.time_steps = time_steps
        freqs = torch.fft.rfftfreq(time_steps, 1 / sfreq)
        highs = torch.tensor([high for _, high in bands[:-1]], dtype=freqs.dtype)
        self.register_buffer("band_of", torch.bucketize(freqs, highs, right=True), persistent=False)  # (freqs,)
        self.register_buffer("real", torch.zeros(channels, len(freqs)))  # mean |X|^2, uV^2
        self.register_buffer("decoded", torch.zeros(channels, len(freqs)))
        self.register_buffer("real_cross", torch.zeros(len(bands), channels, channels))
        self.register_buffer("decoded_cross", torch.zeros(len(bands), channels, channels))
        self.register_buffer("weight", torch.zeros(()))

    def reset(self) -> None:
        """Forget what was seen."""
        for buffer in (self.real, self.decoded, self.real_cross, self.decoded_cross, self.weight):
            buffer.zero_()

    @torch.no_grad()
    def update(self, real: Tensor, decoded: Tensor) -> None:
        """Take in a batch of true and decoded windows, each (batch, channels, time) in uV."""
        for name, signal in (("real", real), ("decoded", decoded)):
            spectrum = torch.fft.rfft(signal.float())
            power, cross = getattr(self, name), getattr(self, f"{name}_cross")
            power.mul_(_DECAY).add_(spectrum.abs().square().mean(dim=0), alpha=1 - _DECAY)
            for band in range(len(cross)):
                part = spectrum[..., self.band_of == band].transpose(0, 1).flatten(1)  # (channels, batch * freqs)
                inner = (part @ part.conj().T).real / len(signal)
                cross[band].mul_(_DECAY).add_(inner, alpha=1 - _DECAY)
        self.weight.mul_(_DECAY).add_(1 - _DECAY)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise windows, (count, channels, time) in uV; zeros before the first update."""
        missing = (self.real - self.decoded).clamp_min(0) / self.weight.clamp_min(1e-12)
        shape = (count, *self.real.shape, 2)
        drawn = torch.view_as_complex(torch.randn(shape, generator=generator, device=self.real.device))
        mixed = torch.empty_like(drawn)
        for band, factor in enumerate(self._factors()):
            inside = self.band_of == band
            mixed[..., inside] = torch.einsum("cd,ndf->ncf", factor.to(drawn.dtype), drawn[..., inside])
        # a complex draw has power 2
        return torch.fft.irfft(mixed * (missing / 2).sqrt(), n=self.time_steps)

    def _factors(self) -> list[Tensor]:
        """A factor of each band's correlation between channels, its nearest that can be one."""
        factors = []
        for real, decoded in zip(self.real_cross, self.decoded_cross, strict=True):
            values, vectors = torch.linalg.eigh((real - decoded).double().cpu())
            factor = vectors * values.clamp_min(0).sqrt()
            norm = factor.norm(dim=1, keepdim=True)
            factors.append((factor / norm.clamp_min(1e-12)).float().to(real.device))
        return factors
