"""Spikes to one token a bin, from any number of units.

A unit's token in a bin is its embedding times the square root of its count; a few queries attend to the tokens of the
units that are there. Since a unit's tokens of all bins lie on one line, keys and values are computed once a unit, and
the (bins, units, dim) tensor of tokens is never made: the cost grows with bins times units, and with nothing squared.
Permuting units together with their identities changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.neuro.neurofm.network.units import RecordingUnits

# Adam moves all weights alike, but a unit is seen in its own recording's windows alone: embeddings are kept in units in
# which they have less far to go.
_QUICK = 5.0
_RAREST = 1e-4  # spikes a bin: a unit that was silent in training may yet fire


class RecordingPage(nn.Module):
    """What belongs to one recording's units alone.

    Parameters
    ----------
    recording : RecordingUnits
    dim : int
    stitch : bool
        Also a matrix that maps the recording's tokens on to the others' (as in LFADS, Pandarinath et al. 2018,
        doi 10.1038/s41592-018-0109-9); the identity at first.
    """

    def __init__(self, recording: RecordingUnits, dim: int, stitch: bool = False) -> None:
        super().__init__()
        self.unit_embed = nn.Parameter(torch.randn(len(recording.unit_ids), dim) / _QUICK)
        mean_log = torch.tensor(recording.mean_counts).float().clamp(min=_RAREST).log()
        self.register_buffer("mean_log", mean_log, persistent=False)
        self.log_rate = nn.Parameter(mean_log.clone())
        self.stitch_embed = nn.Parameter(torch.zeros(dim, dim)) if stitch else None


class UnitBook(nn.Module):
    """A page a recording, read as one table.

    Parameters
    ----------
    recordings : sequence of RecordingUnits
    dim : int
    stitch : bool
        See `RecordingPage`.
    """

    def __init__(self, recordings: Sequence[RecordingUnits], dim: int, stitch: bool = False) -> None:
        super().__init__()
        self.dim, self.stitch = dim, stitch
        self.pages = nn.ModuleList(RecordingPage(recording, dim, stitch) for recording in recordings)

    def forward(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings (batch, units, dim) and log mean counts (batch, units) of units by their places."""
        vectors = torch.cat([page.unit_embed for page in self.pages])
        rates = torch.cat([page.log_rate for page in self.pages])
        return vectors[unit] * _QUICK, rates[unit]

    def mean_log_counts(self, unit: Tensor) -> Tensor:
        """Return units' log mean counts of the training windows, which no training changes: the mean-rate model."""
        return torch.cat([page.mean_log for page in self.pages])[unit]

    def stitches(self, recording: Tensor) -> Tensor | None:
        """Return each window's matrix, (batch, dim, dim); None where there are none."""
        if not self.stitch:
            return None
        return torch.stack([page.stitch_embed for page in self.pages])[recording]

    def add(self, recordings: Sequence[RecordingUnits]) -> list[RecordingPage]:
        """Append pages, and give them."""
        like = self.pages[0].unit_embed
        new = [RecordingPage(recording, self.dim, self.stitch).to(like) for recording in recordings]
        self.pages.extend(new)
        return new


class SpikeTokenizer(nn.Module):
    """Pool the units of each bin by masked cross-attention.

    Each kind of recording (a species and a modality) has its own keys and values, as a change to those all share; a
    kind never seen takes the shared ones.

    Parameters
    ----------
    dim, heads : int
    kinds : int
        Of recordings.
    queries : int
        How many readings of the population a bin gets.
    """

    def __init__(self, dim: int, heads: int, kinds: int, queries: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim=} is not a multiple of {heads=}; each head takes dim / heads of it.")
        self.heads = heads
        self.query_embed = nn.Parameter(torch.randn(queries, dim))
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.kind_key_embed = nn.Parameter(torch.zeros(kinds + 1, dim, dim))
        self.kind_value_embed = nn.Parameter(torch.zeros(kinds + 1, dim, dim))
        self.join = nn.Linear(queries * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, counts: Tensor, units: Tensor, seen: Tensor, kind: Tensor) -> Tensor:
        """Return a token a bin.

        Parameters
        ----------
        counts : Tensor of shape (batch, bins, units)
            Spikes, or the events' size: 0 or more.
        units : Tensor of shape (batch, units, dim)
            Embeddings.
        seen : Tensor of shape (batch, units)
            False for units that are padding or hidden; nothing of them is read.
        kind : Tensor of shape (batch,)
            0 for one that was never trained.

        Returns
        -------
        tokens : Tensor of shape (batch, bins, dim)
        """
        batch, bins, n_units = counts.shape
        own = (kind > 0)[:, None, None].to(units.dtype)
        keys = self.key(units) + own * (units @ self.kind_key_embed[kind])
        values = self.value(units) + own * (units @ self.kind_value_embed[kind])
        keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (keys, values))
        queries = self.query_embed.unflatten(-1, (self.heads, -1)).transpose(0, 1).to(keys.dtype)  # (heads, queries, .)
        level = counts.sqrt().to(keys.dtype)[:, None, :, None]  # (batch, 1, bins, 1, units)
        score = (queries @ keys.mT)[:, :, None] / math.sqrt(keys.shape[-1]) * level
        score = score.masked_fill(~seen[:, None, None, None], float("-inf"))
        # A window all of whose units are hidden has nothing to attend to: zeros, not 0 / 0.
        weight = score.softmax(dim=-1).masked_fill(~seen.any(dim=1)[:, None, None, None, None], 0.0).to(level.dtype)
        pooled = (weight * level).flatten(2, 3) @ values  # (batch, heads, bins * queries, .)
        pooled = pooled.unflatten(2, (bins, -1)).permute(0, 2, 3, 1, 4).flatten(2)
        # A mean over n units shrinks with sqrt(n) whatever they say; what they say should not.
        return self.norm(self.join(pooled * seen.sum(dim=1).clamp(min=1).sqrt()[:, None, None].to(pooled.dtype)))
