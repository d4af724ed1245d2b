"""The recordings that search, scaling and transfer work on: a folder of windows, or made-up ones that say so.

Made-up recordings are a function of their settings, their number and the seed: a session on a wiped machine makes the
same files again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbkit.neuro.neurofm.model import NeuroFMSettings
from nbkit.neuro.signals.spike_windows import SpikeShard, write_windows
from nbkit.neuro.signals.synthetic_spikes import PopulationSettings, simulate_population


@dataclass(frozen=True)
class Recordings:
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


def open_recordings(
    folder: str | Path | None,
    made: Path,
    count: int,
    settings: NeuroFMSettings,
    population: PopulationSettings,
    seed: int = 2025,
) -> Recordings:
    """Give files of windows: those of a folder, or so many that are made up.

    Parameters
    ----------
    folder : path or None
        Holds a ``.npz`` a recording; None makes recordings up.
    made : Path
        Folder for those.
    count : int
        How many are needed.
    settings : NeuroFMSettings
        Bins and windows.
    population : PopulationSettings
        Of the made-up ones; its bins are those of `settings`.
    seed : int

    Raises
    ------
    FileNotFoundError
        Where the folder holds no windows.
    ValueError
        Where it holds fewer recordings than are needed.
    """
    if folder is None:
        world = replace(population, bin_s=settings.bin_s)
        paths: Sequence[Path] = [
            write_windows(made, [simulate_population(world, f"rec{number:03d}", seed)], settings.n_bins)[0]
            for number in range(count)
        ]
    else:
        paths = sorted(Path(folder).glob("*.npz"))
        if not paths:
            raise FileNotFoundError(f"{folder} holds no .npz of spike windows. Cut recordings first, or give None.")
        if len(paths) < count:
            raise ValueError(
                f"{folder} holds {len(paths)} recordings, and {count} are needed. Add some, or ask for fewer."
            )
    shards = sorted((SpikeShard(path) for path in paths), key=lambda shard: shard.name)
    return Recordings(
        tuple(str(shard.path) for shard in shards), "; ".join(dict.fromkeys(shard.data for shard in shards)),
        tuple(shard.n_units for shard in shards), tuple(len(shard) for shard in shards),
    )  # fmt: skip
