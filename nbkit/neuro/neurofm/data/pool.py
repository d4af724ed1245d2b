"""Pool of recordings for search, scaling and transfer: real recordings, or simulated ones with a label.

Simulated recordings depend only on their settings, their number and the seed, so that a session on a new machine
creates the same files again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbkit.neuro.neurofm.data.recordings import open_recordings
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.synthetic_imaging import as_two_photon
from nbkit.neuro.signals.spikes.windows import SpikeShard, write_windows


@dataclass(frozen=True)
class Pool:
    """Files of windows, one for each recording, sorted by name.

    Attributes
    ----------
    paths : tuple of str
    data : str
        "real", or the label of synthetic stand-in data.
    units : tuple of int
        Number of units of each recording.
    windows : tuple of int
        Number of windows of each recording.
    settings : NeuroFMSettings
        The settings with the bins of the files.
    """

    paths: tuple[str, ...]
    data: str
    units: tuple[int, ...]
    windows: tuple[int, ...]
    settings: NeuroFMSettings

    @property
    def words(self) -> str:
        """One line with the numbers of recordings, units and windows, and the label of the data."""
        each = f"{min(self.units)} to {max(self.units)} units, {min(self.windows)} to {max(self.windows)} windows each"
        return f"{len(self.paths)} recordings, {each}; data: {self.data}"


def open_pool(
    windows: Sequence[str | Path],
    folder: str | Path,
    count: int,
    settings: NeuroFMSettings,
    population: PopulationSettings,
    *,
    imaging: int = 0,
    seed: int = 2025,
) -> Pool:
    """Return the pool of the files of phase 49, or of simulated recordings.

    Parameters
    ----------
    windows : sequence of path
        Files of windows; empty simulates recordings.
    folder : path
        Where to write simulated recordings.
    count : int
        Number of recordings needed, without imaging.
    settings : NeuroFMSettings
        Settings with the bins and windows of simulated recordings.
    population : PopulationSettings
        Settings of simulated recordings; the bins are those of ``settings``.
    imaging : int
        Number of additional recordings simulated as two-photon imaging; not used with ``windows``.
    seed : int
        Seed of the simulation.

    Returns
    -------
    pool : Pool

    Raises
    ------
    ValueError
        If there are fewer recordings than needed.
    """
    paths, settings = open_recordings(windows, folder, settings, count=count, population=population, seed=seed)
    if len(paths) < count:
        raise ValueError(
            f"There are {len(paths)} recordings, but {count} are needed. Add recordings in 49_spike_windows, or "
            f'ask for at most {len(paths)}: "recordings" in GRID (51) or CASES (53), "sizes" in SIZES (52).'
        )
    if not windows:
        like = replace(population, bin_s=settings.bin_s)
        seen = [as_two_photon(simulate_population(like, f"tpi{n:03d}", seed), seed=seed) for n in range(imaging)]
        paths += write_windows(folder, seen, settings.n_bins)
    shards = sorted((SpikeShard(path) for path in paths), key=lambda shard: shard.name)
    return Pool(
        tuple(str(shard.path) for shard in shards), "; ".join(dict.fromkeys(shard.data for shard in shards)),
        tuple(shard.n_units for shard in shards), tuple(len(shard) for shard in shards), settings,
    )  # fmt: skip
