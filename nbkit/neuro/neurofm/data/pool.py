"""Pool of recordings for search, scaling and transfer: real recordings, or simulated ones with a label.

Simulated recordings depend only on their settings, their number and the seed, so that a session on a new machine
creates the same files again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbkit.neuro.neurofm.data.recordings import prepare_recordings
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
    """

    paths: tuple[str, ...]
    data: str
    units: tuple[int, ...]
    windows: tuple[int, ...]

    @property
    def words(self) -> str:
        """One line with the numbers of recordings, units and windows, and the label of the data."""
        each = f"{min(self.units)} to {max(self.units)} units, {min(self.windows)} to {max(self.windows)} windows each"
        return f"{len(self.paths)} recordings, {each}; data: {self.data}"


def open_pool(
    sources: str | Path | Sequence[str | Path] | None,
    folder: str | Path,
    count: int,
    settings: NeuroFMSettings,
    population: PopulationSettings,
    *,
    behaviour: str = "",
    imaging: int = 0,
    seed: int = 2025,
) -> Pool:
    """Write files of windows for recordings and return the pool.

    Parameters
    ----------
    sources : path, sequence of path or None
        NWB files or folders of them; None simulates recordings.
    folder : path
        Where to write the files.
    count : int
        Number of recordings needed, without imaging.
    settings : NeuroFMSettings
        Settings with the bins and windows.
    population : PopulationSettings
        Settings of simulated recordings; the bins are those of ``settings``.
    behaviour : str
        Behaviour in the NWB files; see `nbkit.neuro.neurofm.data.recordings.prepare_recordings`.
    imaging : int
        Number of additional recordings simulated as two-photon imaging; not used with ``sources``.
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
    paths = prepare_recordings(
        folder, settings, sources or (), behaviour, count=count, population=population, seed=seed
    )
    if len(paths) < count:
        raise ValueError(
            f"There are {len(paths)} recordings, but {count} are needed. Give more files, or request fewer recordings."
        )
    if not sources:
        like = replace(population, bin_s=settings.bin_s)
        seen = [as_two_photon(simulate_population(like, f"tpi{n:03d}", seed), seed=seed) for n in range(imaging)]
        paths += write_windows(folder, seen, settings.n_bins)
    shards = sorted((SpikeShard(path) for path in paths), key=lambda shard: shard.name)
    return Pool(
        tuple(str(shard.path) for shard in shards), "; ".join(dict.fromkeys(shard.data for shard in shards)),
        tuple(shard.n_units for shard in shards), tuple(len(shard) for shard in shards),
    )  # fmt: skip
