"""The pool of recordings that search, scaling and transfer draw from: real ones, or made-up ones that say so.

Made-up recordings are a function of their settings, their number and the seed: a session on a wiped machine makes the
same files again.
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
    """Files of windows, a recording each, by name.

    Attributes
    ----------
    paths : tuple of str
    data : str
        "real", or what stands in.
    units : tuple of int
        Of each.
    windows : tuple of int
        Of each.
    """

    paths: tuple[str, ...]
    data: str
    units: tuple[int, ...]
    windows: tuple[int, ...]

    @property
    def words(self) -> str:
        """How many of what, in a line."""
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
    """Write files of windows of recordings, and give them by name.

    Parameters
    ----------
    sources : path, sequence of path or None
        NWB files or folders of them; none makes recordings up.
    folder : path
        For the files.
    count : int
        How many are needed, imaging not counted.
    settings : NeuroFMSettings
        Bins and windows.
    population : PopulationSettings
        Of the made-up ones; their bins are those of `settings`.
    behaviour : str
        Of the NWB files; see `nbkit.neuro.neurofm.data.recordings.prepare_recordings`.
    imaging : int
        How many more are made up as two-photon imaging would show them; real ones bring their own.
    seed : int
        Of the made-up ones.

    Raises
    ------
    ValueError
        Where there are fewer recordings than are needed.
    """
    paths = prepare_recordings(
        folder, settings, sources or (), behaviour, count=count, population=population, seed=seed
    )
    if len(paths) < count:
        raise ValueError(
            f"there are {len(paths)} recordings, and {count} are needed. Give more files, or ask for fewer."
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
