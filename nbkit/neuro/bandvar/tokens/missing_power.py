"""Power that is missing in decoded windows, and noise that adds it.

A few hundred bits cannot represent 5 s of 64 channels, so decoded windows have too little power. The missing part is
described by its mean power at each frequency and its correlation between channels, both over training windows. This is
the covariance of a Gaussian decoder: the decoder output is its mean, and adding a draw of the noise gives a sample. The
noise has no information about the class or the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.neuro.signals.bands import Band

_DECAY = 0.99
_MOST_GAIN = 31.6  # in amplitude


class MissingPower(nn.Module):
    """Running spectra of true and decoded windows, and noise with the spectrum of their difference.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz; the correlation between channels is the same for all frequencies of a band.
    sfreq : float
        Sampling frequency in Hz.
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
        self.register_buffer("trim", torch.ones(len(freqs)), persistent=False)  # on the gains of `equalised`

    def reset(self) -> None:
        """Set all running averages to zero."""
        for buffer in (self.real, self.decoded, self.real_cross, self.decoded_cross, self.weight):
            buffer.zero_()

    @torch.no_grad()
    def update(self, real: Tensor, decoded: Tensor) -> None:
        """Update the running averages with true and decoded windows, each (batch, channels, time) in uV."""
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
    def equalised(self, decoded: Tensor) -> Tensor:
        """Return decoded windows with the mean spectrum of true ones: each frequency is amplified, nothing is added.

        Each channel has gains of its own, up to 30 dB, and all classes have the same; ``decoded`` has shape (windows,
        channels, time).
        """
        gain = (self.real / self.decoded.clamp_min(1e-12)).sqrt().clamp(0.1, _MOST_GAIN)
        gain = gain * self.trim if float(self.weight) > 0 else torch.ones_like(gain)
        return torch.fft.irfft(torch.fft.rfft(decoded.float()) * gain.to(decoded.device), n=self.time_steps)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Return random noise windows, (count, channels, time) in uV; zeros before the first update."""
        missing = (self.real - self.decoded).clamp_min(0) / self.weight.clamp_min(1e-12)
        shape = (count, *self.real.shape, 2)
        drawn = torch.view_as_complex(torch.randn(shape, generator=generator, device=self.real.device))
        mixed = torch.empty_like(drawn)
        for band, factor in enumerate(self._factors()):
            inside = self.band_of == band
            mixed[..., inside] = torch.einsum("cd,ndf->ncf", factor.to(drawn.dtype), drawn[..., inside])
        # Divide by 2, because a complex number with standard normal parts has power 2.
        return torch.fft.irfft(mixed * (missing / 2).sqrt(), n=self.time_steps)

    def _factors(self) -> list[Tensor]:
        """Return, for each band, a factor of the nearest positive semidefinite correlation between channels."""
        factors = []
        for real, decoded in zip(self.real_cross, self.decoded_cross, strict=True):
            values, vectors = torch.linalg.eigh((real - decoded).double().cpu())
            factor = vectors * values.clamp_min(0).sqrt()
            norm = factor.norm(dim=1, keepdim=True)
            factors.append((factor / norm.clamp_min(1e-12)).float().to(real.device))
        return factors
