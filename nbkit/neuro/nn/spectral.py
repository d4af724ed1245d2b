"""Fourier layers over time, with modes in Hz.

Li et al. (2021, https://arxiv.org/abs/2010.08895). The weights are defined on a grid of frequencies in Hz and are
interpolated at the frequencies of the input. A layer therefore filters 2 s of a signal as it filters 1 s. Above its
band, the output is zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralConv1d(nn.Module):
    """Multiply the spectrum of a signal below ``fmax`` by a complex matrix per frequency.

    neuralop's ``n_modes=50`` keeps 26 frequencies of a real signal: up to 25 Hz for 1 s and 12.5 Hz for 2 s. Here, 50
    modes 1 Hz apart are 0, 1 ... 49 Hz, the band below 50 Hz, for any length. An input of 2 s has frequencies 0.5 Hz
    apart; each half Hz uses the mean of the two neighbouring weights.

    Parameters
    ----------
    in_channels, out_channels : int
    sfreq : float
        Sampling rate, in Hz.
    fmax : float
        Upper end of the band (exclusive), in Hz.
    spacing : float
        Distance between two frequencies of the grid, in Hz.

    Raises
    ------
    ValueError
        If ``fmax`` is above half of ``sfreq``, or ``spacing`` is not between 0 and ``fmax``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, sfreq: float, fmax: float = 50.0, spacing: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < spacing <= fmax or fmax > sfreq / 2:
            raise ValueError(
                f"The grid fmax={fmax} Hz, spacing={spacing} Hz at sfreq={sfreq} Hz is not possible: fmax may be at "
                f"most half of sfreq, {sfreq / 2} Hz, and spacing at most fmax."
            )
        self.sfreq, self.fmax, self.spacing = sfreq, fmax, spacing
        self.modes = round(fmax / spacing)
        # Real and imaginary parts in a real tensor: optimisers, norms and checkpoints do not support complex ones.
        scale = (2 * in_channels) ** -0.5
        self.weight = nn.Parameter(scale * torch.randn(self.modes, in_channels, out_channels, 2))

    def frequencies(self, n_times: int) -> Tensor:
        """Return the frequencies of the band, in Hz, for an input of ``n_times`` samples."""
        every = torch.arange(n_times // 2 + 1, dtype=torch.float64, device=self.weight.device) * self.sfreq / n_times
        return every[every < self.fmax - 1e-6 * self.spacing]

    def forward(self, x: Tensor) -> Tensor:
        """Filter a signal.

        Parameters
        ----------
        x : Tensor of shape (batch, in_channels, time)

        Returns
        -------
        y : Tensor of shape (batch, out_channels, time)
            In the dtype of ``x``; computed in float32 or wider, also under autocast.
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
        """Interpolate the weights linearly at frequencies in Hz; above the grid, use its last weight."""
        place = (freqs / self.spacing).clamp_max(self.modes - 1)
        below = place.floor().long()
        share = (place - below).to(self.weight.dtype)[:, None, None, None]
        above = (below + 1).clamp_max(self.modes - 1)
        return torch.lerp(self.weight[below], self.weight[above], share)


class FourierNetwork(nn.Module):
    """Fourier neural operator that maps channels to channels.

    A linear map to ``hidden`` channels, then layers that add a spectral convolution and a linear map of each time
    point, with GELU between them, then a linear map to the output channels.

    Parameters
    ----------
    in_channels, out_channels, hidden : int
    layers : int
        Number of Fourier layers.
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
        """Map x of shape (batch, in_channels, time) to shape (batch, out_channels, time)."""
        x = self.lift(x)
        for number, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if number < len(self.spectral) - 1:
                x = F.gelu(x)
        return self.project(x)
