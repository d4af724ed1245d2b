"""Fourier layers over time, with modes in Hz.

Li et al. (2021, https://arxiv.org/abs/2010.08895). Weights lie on a grid of frequencies in Hz and are read between its
points where an input's own frequencies lie there, so a layer does to 2 s of a signal what it does to 1 s; above its
band it gives nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv1d(nn.Module):
    """Multiply a signal's spectrum, below ``fmax``, by a complex matrix a frequency.

    neuralop's ``n_modes=50`` halves the last axis of a real signal: 26 of its frequencies, to 25 Hz at 1 s and 12.5 Hz
    at 2 s. Here 50 modes 1 Hz apart are 0, 1 ... 49 Hz, the band up to 50 Hz at any length; an input of 2 s, whose
    frequencies are 0.5 Hz apart, reads each half Hz as the mean of its neighbours.

    Parameters
    ----------
    in_channels, out_channels : int
    sfreq : float
        Samples a second, in Hz.
    fmax : float
        End of the band, in Hz, which is not in it.
    spacing : float
        From one frequency that has weights to the next, in Hz.
    """

    def __init__(
        self, in_channels: int, out_channels: int, sfreq: float, fmax: float = 50.0, spacing: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < spacing <= fmax or fmax > sfreq / 2:
            raise ValueError(
                f"fmax={fmax} Hz by {spacing} Hz at sfreq={sfreq} Hz; fmax may be half of sfreq, {sfreq / 2} Hz, at "
                "most, and spacing fmax at most."
            )
        self.sfreq, self.fmax, self.spacing = sfreq, fmax, spacing
        self.modes = round(fmax / spacing)
        # Real and imaginary part as a real tensor: optimizers, norms and checkpoints know no complex ones.
        scale = (2 * in_channels) ** -0.5
        self.weight = nn.Parameter(scale * torch.randn(self.modes, in_channels, out_channels, 2))

    def frequencies(self, n_times: int) -> Tensor:
        """Return the frequencies in Hz that an input of so many samples has in the band."""
        every = torch.arange(n_times // 2 + 1, dtype=torch.float64, device=self.weight.device) * self.sfreq / n_times
        return every[every < self.fmax - 1e-6 * self.spacing]

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered signal.

        Parameters
        ----------
        x : Tensor of shape (batch, in_channels, time)

        Returns
        -------
        y : Tensor of shape (batch, out_channels, time)
            In the type of ``x``; computed in float32 at least, in autocast too.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            freqs = self.frequencies(x.shape[2])
            weight = torch.view_as_complex(self._between(freqs).to(wide))
            spectrum = torch.fft.rfft(x.to(wide), dim=2)
            kept = spectrum[..., : len(freqs)].permute(2, 0, 1) @ weight  # (frequencies, batch, out_channels)
            kept = F.pad(kept.permute(1, 2, 0), (0, spectrum.shape[2] - len(freqs)))
            return torch.fft.irfft(kept, n=x.shape[2], dim=2).to(x.dtype)

    def _between(self, freqs: Tensor) -> Tensor:
        """The weights at frequencies, linear between those of the grid and the last one's beyond it."""
        place = (freqs / self.spacing).clamp_max(self.modes - 1)
        below = place.floor().long()
        share = (place - below).to(self.weight.dtype)[:, None, None, None]
        above = (below + 1).clamp_max(self.modes - 1)
        return torch.lerp(self.weight[below], self.weight[above], share)


class FourierNetwork(nn.Module):
    """Map channels to channels through Fourier layers over time.

    A linear map to ``hidden`` channels, then layers of a spectral convolution plus a linear map of each time point with
    GELU between them, and a linear map to the output's channels.

    Parameters
    ----------
    in_channels, out_channels, hidden : int
    layers : int
    sfreq, fmax, spacing : float
        In Hz; see `SpectralConv1d`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, hidden: int = 64, layers: int = 2, sfreq: float = 100.0,
        fmax: float = 50.0, spacing: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lift = nn.Conv1d(in_channels, hidden, 1)
        self.spectral = nn.ModuleList(SpectralConv1d(hidden, hidden, sfreq, fmax, spacing) for _ in range(layers))
        self.pointwise = nn.ModuleList(nn.Conv1d(hidden, hidden, 1) for _ in range(layers))
        self.project = nn.Conv1d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (batch, in_channels, time) to (batch, out_channels, time)."""
        x = self.lift(x)
        for number, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if number < len(self.spectral) - 1:
                x = F.gelu(x)
        return self.project(x)
