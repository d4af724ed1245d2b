"""Output heads: behaviour, spike counts, contrastive embedding of windows, and forecast.

Heads that depend on the task get one task number for each window, because a batch has windows of different tasks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_LOG_COUNT = 8.0  # 3,000 spikes per bin, above any real rate; prevents an overflow of exp


class BehaviourHead(nn.Module):
    """Decode behaviour with two layers of separate weights for each task.

    Parameters
    ----------
    dim : int
        Width of the states.
    tasks : int
        Number of tasks. Number 0, "no task", also has weights, which are not trained.
    outputs : int
        Largest number of dims of a task; for other tasks the remaining outputs have no meaning.
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
    """Predict the log expected count of each unit in each bin.

    The log count is the log mean rate of the unit plus a scaled inner product of state and unit embedding, so that the
    size of the head does not depend on the number of units. The head starts as the mean-rate model.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.state, self.unit = nn.Linear(dim, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.state.weight)
        nn.init.zeros_(self.state.bias)

    def forward(self, states: Tensor, units: Tensor, log_rate: Tensor) -> Tensor:
        """Return log expected counts (batch, bins, units).

        The inputs are states (batch, bins, dim), unit embeddings (batch, units, dim) and log mean rates (batch, units).
        """
        unit = self.unit(self.norm(units))
        with torch.autocast(states.device.type, enabled=False):  # the loss needs exp of this in full precision
            wide = self.state.weight.dtype
            agree = self.state(states.to(wide)) @ unit.to(wide).mT / math.sqrt(unit.shape[-1])
            return (log_rate.to(wide)[:, None] + agree).clamp(max=MOST_LOG_COUNT)


class ContrastHead(nn.Module):
    """Embed a window on the unit sphere, where consecutive windows should be close to each other.

    Parameters
    ----------
    dim, width : int
        Width of the latents and of the embedding.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, width))

    def forward(self, latents: Tensor) -> Tensor:
        """Return unit vectors (batch, width), in float32, for latents (batch, latents, dim)."""
        place = self.layers(latents.mean(dim=1))
        return F.normalize(place.to(torch.promote_types(place.dtype, torch.float32)), dim=-1)


class ForecastHead(nn.Module):
    """Predict states for the first bins after a window, from its last state and its latents.

    Parameters
    ----------
    dim, bins : int
        Width of the states, and number of bins to predict.
    """

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.layers = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, bins * dim))

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """Return states (batch, forecast bins, dim) for states (batch, bins, dim) and latents (batch, latents, dim)."""
        return self.layers(torch.cat([states[:, -1], latents.mean(dim=1)], dim=-1)).unflatten(-1, (self.bins, -1))
