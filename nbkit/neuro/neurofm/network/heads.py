"""What the model's states are asked for: behaviour, counts, likeness of windows, what comes next.

A head takes a number a window, never one for the batch: windows of different tasks stand in one batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_LOG_COUNT = 8.0  # 3,000 spikes a bin: beyond lies an overflow, not a rate


class BehaviourHead(nn.Module):
    """Decode each window's behaviour by its task's own two layers.

    Parameters
    ----------
    dim : int
    tasks : int
        Number 0 is "no task" and has weights, too, that nothing trains.
    outputs : int
        Dims of the widest task; those beyond a task's own mean nothing.
    """

    def __init__(self, dim: int, tasks: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(tasks + 1, dim, dim) / math.sqrt(dim))
        self.inner_bias_embed = nn.Parameter(torch.zeros(tasks + 1, dim))
        self.outer = nn.Parameter(torch.randn(tasks + 1, dim, outputs) / math.sqrt(dim))
        self.outer_bias_embed = nn.Parameter(torch.zeros(tasks + 1, outputs))

    def forward(self, states: Tensor, task: Tensor) -> Tensor:
        """Return (batch, bins, outputs) for states (batch, bins, dim) and task numbers (batch,)."""
        inner = F.gelu(states @ self.inner[task] + self.inner_bias_embed[task][:, None])
        return inner @ self.outer[task] + self.outer_bias_embed[task][:, None]


class CountHead(nn.Module):
    """Give each unit's log expected count in each bin: its own mean, and how state and unit agree.

    Starts as the mean-rate model. A unit's vector decides what it reads from a state, so a head has no size that hangs
    on how many units there are.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.state, self.unit = nn.Linear(dim, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.state.weight)
        nn.init.zeros_(self.state.bias)

    def forward(self, states: Tensor, units: Tensor, log_rate: Tensor) -> Tensor:
        """Return (batch, bins, units) for states (batch, bins, dim), units (batch, units, dim) and their log rates."""
        unit = self.unit(self.norm(units))
        with torch.autocast(states.device.type, enabled=False):  # exp of this is compared with counts
            wide = self.state.weight.dtype
            agree = self.state(states.to(wide)) @ unit.to(wide).mT / math.sqrt(unit.shape[-1])
            return (log_rate.to(wide)[:, None] + agree).clamp(max=MOST_LOG_COUNT)


class ContrastHead(nn.Module):
    """Give a window's place on a sphere: windows that follow each other should lie near.

    Parameters
    ----------
    dim, width : int
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, width))

    def forward(self, latents: Tensor) -> Tensor:
        """Return unit vectors (batch, width), in float32, for latents (batch, latents, dim)."""
        place = self.layers(latents.mean(dim=1))
        return F.normalize(place.to(torch.promote_types(place.dtype, torch.float32)), dim=-1)


class ForecastHead(nn.Module):
    """Give states for the first bins after the window, from its last state and its latents.

    Parameters
    ----------
    dim, bins : int
    """

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.layers = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, bins * dim))

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """Return (batch, bins, dim)."""
        return self.layers(torch.cat([states[:, -1], latents.mean(dim=1)], dim=-1)).unflatten(-1, (self.bins, -1))
