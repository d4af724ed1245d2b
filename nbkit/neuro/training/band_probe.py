"""A probe during pretraining: how well a linear model reads band powers out of the latents.

A pretraining loss can fall while its latents get worse. At each validation a ridge regression predicts the log power
of each band of a window, averaged over channels, from the window's latents: fitted on every other batch, scored on the
batches between. Batches may be of the same people, so the score follows one training and compares no models.
"""

from __future__ import annotations

import torch
from torch import Tensor

NAME = "val_probe_r2"
BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0))  # Hz
_MOST = 4096  # windows
_FEWEST = 8  # windows on each side
_RIDGE = 0.01  # of the number of windows, for standardised latents


class BandProbe:
    """Collect latents and band powers of a validation, and score the probe at its end.

    Parameters
    ----------
    sfreq : float
        Sampling frequency, in Hz; bands that it does not hold are left out.
    """

    def __init__(self, sfreq: float) -> None:
        self.sfreq = float(sfreq)
        self._sides: tuple[list[tuple[Tensor, Tensor]], ...] = ([], [])
        self._batches = self._windows = 0

    @property
    def full(self) -> bool:
        """Whether it has all the windows that it takes."""
        return self._windows >= _MOST

    @torch.no_grad()
    def add(self, latents: Tensor, windows: Tensor) -> None:
        """Add a batch: latents of shape (batch, dim), windows of shape (batch, channels, time)."""
        if not self.full:
            pair = latents.detach().float().cpu(), band_powers(windows, self.sfreq).cpu()
            self._sides[self._batches % 2].append(pair)
            self._windows += len(latents)
        self._batches += 1

    def r2(self) -> float | None:
        """Return the mean R2 over bands; 0 is the mean of the fitted windows. None if there are too few windows."""
        if not all(self._sides):
            return None
        (x, y), (seen, true) = (
            tuple(torch.cat([pair[part] for pair in side]).double() for part in (0, 1)) for side in self._sides
        )
        if min(len(x), len(seen)) < _FEWEST or y.shape[1] == 0:
            return None
        middle, spread = x.mean(0), x.std(0).clamp_min(1e-9)
        x, seen, mean = (x - middle) / spread, (seen - middle) / spread, y.mean(0)
        slopes = torch.linalg.solve(x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1]).double(), x.T @ (y - mean))
        error = (seen @ slopes + mean - true).square().sum(0)
        return float((1 - error / (true - mean).square().sum(0).clamp_min(1e-12)).mean())


def band_powers(windows: Tensor, sfreq: float) -> Tensor:
    """Return the log power of each band, averaged over channels, shape (batch, bands), of windows in uV."""
    with torch.autocast(windows.device.type, enabled=False):
        power = torch.fft.rfft(windows.float(), dim=-1).abs().square().mean(dim=1)
        at = torch.fft.rfftfreq(windows.shape[-1], 1 / sfreq).to(power.device)
        held = [(at >= low) & (at < high) for low, high in BANDS if high <= sfreq / 2]
        bands = [power[:, inside].mean(dim=1) for inside in held if bool(inside.any())]
        return torch.stack(bands, dim=1).add(1e-6).log() if bands else power.new_zeros(len(power), 0)
