"""Files of windows for the phases of NeuroFM: those of phase 49, or simulated populations if there are none.

Simulated recordings depend only on their settings, their number and the seed, so that a session on a new machine
creates the same files again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.signals.spikes.recordings import SNRS
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_recordings
from nbkit.neuro.signals.spikes.windows import SpikeShard, write_windows


def find_windows(source: str, inputs: Callable[[str], list[Path]]) -> list[Path]:
    """Return the files of windows that phase 49 stored, or none for simulated recordings.

    Parameters
    ----------
    source : {"simulated", "recordings"}
    inputs : callable
        Returns the outputs of a phase by its slug, such as ``session.inputs``.

    Raises
    ------
    ValueError
        If the source is unknown.
    """
    if source not in ("simulated", "recordings"):
        raise ValueError(
            f"SOURCE is {source!r}; it must be 'recordings' (those that 49_spike_windows stored) or 'simulated'."
        )
    return inputs("spike_windows") if source == "recordings" else []


def open_recordings(
    windows: Sequence[str | Path],
    folder: str | Path,
    settings: NeuroFMSettings,
    *,
    count: int = 4,
    population: PopulationSettings | None = None,
    snrs: Sequence[float] = SNRS,
    seed: int = 2025,
) -> tuple[list[Path], NeuroFMSettings]:
    """Return files of windows, and the settings with their bins.

    Parameters
    ----------
    windows : sequence of path
        Files of windows, such as ``session.inputs("spike_windows")``. If empty, recordings are simulated and labelled
        as synthetic.
    folder : path
        Where to write simulated recordings.
    settings : NeuroFMSettings
        Its ``bin_s`` and ``n_bins`` are replaced by those of the files; simulated recordings get them.
    count : int
        Number of simulated recordings.
    population : PopulationSettings, optional
        Settings of the simulation, by default ``PopulationSettings()``.
    snrs : sequence of float
        SNR of the simulated recordings, used in turn.
    seed : int
        Seed of the simulation.

    Returns
    -------
    paths : list of Path
        Sorted by the names of the recordings.
    settings : NeuroFMSettings
    """
    if not windows:
        like = replace(population or PopulationSettings(), bin_s=settings.bin_s)
        return write_windows(folder, simulate_recordings(count, like, seed, snrs), settings.n_bins), settings
    shards = sorted((SpikeShard(path) for path in windows), key=lambda shard: shard.name)
    first = shards[0]
    return [shard.path for shard in shards], replace(settings, bin_s=first.bin_s, n_bins=first.n_bins)
