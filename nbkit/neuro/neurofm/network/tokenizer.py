"""Spike tokenizer: one token for each bin, from any number of units.

The token of a unit in a bin is the embedding of the unit times the level of its activity: the square root of its count,
or the standardised value of a trace. A few queries attend to
the tokens of all units. The tokens of one unit are multiples of one vector, so keys and values are computed once for
each unit and the tensor of shape (bins, units, dim) is never stored: the cost is proportional to bins times units. The
result does not depend on the order of the units. Bins in which a unit was not observed are left out, like units that
are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.neuro.neurofm.network.units import RecordingUnits

# Adam changes all weights by similar amounts, but the embedding of a unit is updated only in windows of its own
# recording. The parameters are therefore stored divided by 5, so that each update is 5 times larger.
_QUICK = 5.0
_RAREST = 1e-4  # spikes per bin; keeps the log rate of a unit without spikes in training finite


class RecordingPage(nn.Module):
    """Weights of one recording: embeddings and mean rates of its units.

    Parameters
    ----------
    recording : RecordingUnits
    dim : int
        Width of the embeddings.
    stitch : bool
        Also add a matrix that maps the tokens of this recording to the space of the others (as in LFADS, Pandarinath et
        al. 2018, doi 10.1038/s41592-018-0109-9). It starts as the identity.
    """

    def __init__(self, recording: RecordingUnits, dim: int, stitch: bool = False) -> None:
        super().__init__()
        self.unit_embed = nn.Parameter(torch.randn(len(recording.unit_ids), dim) / _QUICK)
        mean = torch.tensor(recording.mean_counts).float()
        mean_log = torch.zeros_like(mean) if recording.scales else mean.clamp(min=_RAREST).log()
        self.register_buffer("mean_log", mean_log, persistent=False)
        self.log_rate = nn.Parameter(mean_log.clone())
        self.stitch_embed = nn.Parameter(torch.zeros(dim, dim)) if stitch else None


class UnitBook(nn.Module):
    """Weights of all recordings, one `RecordingPage` each, indexed as one table.

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
        """Return the embeddings (batch, units, dim) and log mean counts (batch, units) of units.

        ``unit`` (batch, units) has the indices of the units in the table.
        """
        vectors = torch.cat([page.unit_embed for page in self.pages])
        rates = torch.cat([page.log_rate for page in self.pages])
        return vectors[unit] * _QUICK, rates[unit]

    def mean_log_counts(self, unit: Tensor) -> Tensor:
        """Return the log mean counts of units in the training windows: the mean-rate model, which is not trained.

        For units with standardised traces it is their mean, 0.
        """
        return torch.cat([page.mean_log for page in self.pages])[unit]

    def stitches(self, recording: Tensor) -> Tensor | None:
        """Return the stitch matrix of each window, (batch, dim, dim), or None without stitching."""
        if not self.stitch:
            return None
        return torch.stack([page.stitch_embed for page in self.pages])[recording]

    def add(self, recordings: Sequence[RecordingUnits]) -> list[RecordingPage]:
        """Append the weights of new recordings and return them."""
        like = self.pages[0].unit_embed
        new = [RecordingPage(recording, self.dim, self.stitch).to(like) for recording in recordings]
        self.pages.extend(new)
        return new


class SpikeTokenizer(nn.Module):
    """Pool the units of each bin by masked cross-attention.

    Each kind of recording (species and modality) has its own change to the shared key and value projections. Unknown
    kinds use the shared projections.

    Parameters
    ----------
    dim, heads : int
        Width, and number of attention heads.
    kinds : int
        Number of kinds of recordings.
    queries : int
        Number of learned queries for each bin.
    """

    def __init__(self, dim: int, heads: int, kinds: int, queries: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim=} is not a multiple of {heads=}; each head gets dim / heads features.")
        self.heads = heads
        self.query_embed = nn.Parameter(torch.randn(queries, dim))
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.kind_key_embed = nn.Parameter(torch.zeros(kinds + 1, dim, dim))
        self.kind_value_embed = nn.Parameter(torch.zeros(kinds + 1, dim, dim))
        self.join = nn.Linear(queries * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, level: Tensor, units: Tensor, seen: Tensor, kind: Tensor) -> Tensor:
        """Return one token for each bin.

        Parameters
        ----------
        level : Tensor of shape (batch, bins, units)
            Square roots of spike counts or event sizes, or standardised traces.
        units : Tensor of shape (batch, units, dim)
            Embeddings of the units.
        seen : bool Tensor of shape (batch, bins or 1, units)
            False for padding, masked units and bins that were not observed, which are not used.
        kind : Tensor of shape (batch,)
            Kind of recording; 0 for an unknown kind.

        Returns
        -------
        tokens : Tensor of shape (batch, bins, dim)
        """
        bins = level.shape[1]
        own = (kind > 0)[:, None, None].to(units.dtype)
        keys = self.key(units) + own * (units @ self.kind_key_embed[kind])
        values = self.value(units) + own * (units @ self.kind_value_embed[kind])
        keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (keys, values))
        queries = self.query_embed.unflatten(-1, (self.heads, -1)).transpose(0, 1).to(keys.dtype)  # (heads, queries, .)
        level = level.to(keys.dtype)[:, None, :, None]  # (batch, 1, bins, 1, units)
        score = (queries @ keys.mT)[:, :, None] / math.sqrt(keys.shape[-1]) * level
        score = score.masked_fill(~seen[:, None, :, None], float("-inf"))
        # If no unit of a bin is seen, the softmax is NaN; the token must be 0.
        none = ~seen.any(dim=-1)[:, None, :, None, None]
        weight = score.softmax(dim=-1).masked_fill(none, 0.0).to(level.dtype)
        pooled = (weight * level).flatten(2, 3) @ values  # (batch, heads, bins * queries, .)
        pooled = pooled.unflatten(2, (bins, -1)).permute(0, 2, 3, 1, 4).flatten(2)
        # A mean over n independent units shrinks with sqrt(n); undo that, so that the scale does not depend on n.
        return self.norm(self.join(pooled * seen.sum(dim=-1).clamp(min=1).sqrt()[..., None].to(pooled.dtype)))
