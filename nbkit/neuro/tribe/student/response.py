"""Haemodynamic layer: a learned causal response for each feature, at the scanner's repetition time.

torch's Conv1d is a correlation, so the weights are the response in reverse: the last tap is lag 0. Each feature starts
with SPM's response and without a residual connection: one of strength 1 would make lag 0 higher than the peak.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.signals.imaging.hrf import hrf_kernel


class HRFLayer(nn.Module):
    """Weight each feature's past by a response of ``taps`` steps, and add a share of the feature itself.

    Parameters
    ----------
    dim, taps : int
    tr : float
        Length of a step, in s; 16 taps at 1.49 s reach back 22 s, to the end of the undershoot.
    """

    def __init__(self, dim: int, taps: int = 8, tr: float = 1.49) -> None:
        super().__init__()
        self.taps, self.tr = taps, float(tr)
        kernel = torch.as_tensor(hrf_kernel(tr, taps * tr), dtype=torch.float32)
        self.weight = nn.Parameter(kernel.flip(0).expand(dim, 1, taps).clone())
        self.residual = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, (batch, time, dim)."""
        past = F.pad(x.transpose(1, 2), (self.taps - 1, 0))
        return self.residual * x + F.conv1d(past, self.weight, groups=len(self.weight)).transpose(1, 2)

    @torch.no_grad()
    def kernels(self) -> np.ndarray:
        """Return what the layer does to an impulse, shape (dim, taps), lag 0 first, with the residual."""
        kernels = self.weight[:, 0].flip(-1).float().cpu().numpy().copy()
        kernels[:, 0] += self.residual.float().cpu().numpy()
        return kernels

    @torch.no_grad()
    def move_to(self, tr: float) -> None:
        """Resample the learned responses to another repetition time, in s; their sums do not change."""
        old, new = np.arange(self.taps) * self.tr, np.arange(self.taps) * float(tr)
        kernels = self.weight[:, 0].flip(-1).float().cpu().numpy()
        moved = np.stack([np.interp(new, old, kernel, right=0.0) for kernel in kernels])
        total = moved.sum(1, keepdims=True)
        moved *= np.divide(kernels.sum(1, keepdims=True), total, out=np.ones_like(total), where=np.abs(total) > 1e-6)
        self.weight.copy_(torch.as_tensor(moved, dtype=self.weight.dtype).flip(-1)[:, None])
        self.tr = float(tr)
