"""Cumulative bands of stored recordings, computed when they are read.

A store keeps a signal once. Its bands are filtered here from the whole part between two gaps, before windows are cut,
so no window has the edges of a filter inside. At both ends of a part the filters see mirrored samples; the windows that
lie there can be told from the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import (
    DEFAULT_BANDS,
    Band,
    cumulative_frequency_levels,
    edge_samples,
    effective_bands,
)
from nbkit.neuro.signals.surrogate import phase_randomised, seed_of
from nbkit.neuro.signals.windows.mapped import map_npy, npy_header
from nbkit.neuro.signals.windows.shards import WindowShards

_MOST_BYTES = 2**30  # levels that are kept in memory, in each process


class BandLevels:
    """Cumulative bands of the windows of `WindowShards`.

    Parameters
    ----------
    shards : WindowShards
        Of indices with a signal, as 10_eeg_windows writes them.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz; upper edges are limited by the sampling rate.
    surrogate : int, optional
        Seed; if it is given, the levels are those of a phase-randomised surrogate of each part (see `surrogate`).

    Attributes
    ----------
    bands : tuple of (float, float)
        The effective edges.
    """

    def __init__(
        self, shards: WindowShards, bands: Sequence[Band] = DEFAULT_BANDS, surrogate: int | None = None
    ) -> None:
        if shards.starts is None:
            raise ValueError(
                f"{shards.paths[0]} holds windows without the recording that they were cut from, so their bands cannot "
                "be filtered. Cut them again with 10_eeg_windows."
            )
        self.shards, self.bands = shards, effective_bands(bands, shards.sfreq)
        self.surrogate = surrogate
        self._places = list(zip(shards.shard_of.tolist(), shards.starts.tolist(), strict=True))
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return a window's levels, a float32 array of shape (bands, channels, time) in uV."""
        shard, start = self._places[index]
        return self._levels(shard)[:, :, start : start + self.shards.n_times]

    def off_edges(self) -> np.ndarray:
        """Return for each window whether all its levels rest on recorded samples, bool of shape (windows,)."""
        room = edge_samples(self.shards.sfreq, self.bands)
        kept = np.zeros(len(self), bool)
        for number, (shard, start) in enumerate(self._places):
            kept[number] = any(
                first + room <= start and start + self.shards.n_times <= stop - room
                for first, stop, _ in self._stretches(shard)
            )
        return kept

    def _stretches(self, shard: int) -> list[list[float]]:
        whole = [[0, npy_header(self.shards.files[shard])[0][0], 0.0]]
        return self.shards.facts[shard].get("stretches") or whole

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}  # each worker computes its own

    def _levels(self, shard: int) -> np.ndarray:
        if shard in self._kept:
            self._kept.move_to_end(shard)
            return self._kept[shard]
        stored = map_npy(self.shards.files[shard])
        signal = stored.T.float().numpy()
        levels = np.empty((len(self.bands), *signal.shape), np.float32)
        path = self.shards.paths[shard]
        for first, stop, _ in self._stretches(shard):
            part = signal[:, first:stop].astype(np.float64)
            if self.surrogate is not None and stop - first > 1:
                part = phase_randomised(part, seed_of(f"{path.parent.name}/{path.name}:{first}", self.surrogate))
            # a part of one sample has no window, and no filter
            levels[:, :, first:stop] = (
                cumulative_frequency_levels(part, self.shards.sfreq, self.bands) if stop - first > 1 else 0
            )
        self._kept[shard] = levels
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _MOST_BYTES:
            self._kept.popitem(last=False)
        return levels
