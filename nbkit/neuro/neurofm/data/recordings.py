"""Files of windows from NWB files, or from simulated populations where none are given.

The same sources and settings give the same files wherever they are written, so a session may make them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.signals.spikes.nwb import load_nwb
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_recordings
from nbkit.neuro.signals.spikes.windows import bin_recording, write_windows

STAND_IN_SNRS = (0.85, 0.7, 0.5, 0.35)


def prepare_recordings(
    folder: str | Path,
    settings: NeuroFMSettings,
    nwb: str | Path | Sequence[str | Path] = (),
    behaviour: str = "",
    *,
    count: int = 4,
    population: PopulationSettings | None = None,
    snrs: Sequence[float] = STAND_IN_SNRS,
    seed: int = 2025,
) -> list[Path]:
    """Write a file of windows a recording, in the settings' bins, and give the paths.

    Parameters
    ----------
    folder : path
    settings : NeuroFMSettings
        ``bin_s`` and ``n_bins`` count.
    nwb : path or sequence of path
        NWB files, or folders of them; where empty, ``count`` recordings are simulated and say so of themselves.
    behaviour : str
        Name of a series in each NWB file to be decoded; the recording is then cut to the time in which it was measured.
    count : int
        Of simulated recordings.
    population : PopulationSettings, optional
        Of the simulation; ``PopulationSettings()`` where not given. Its bins are the settings'.
    snrs : sequence of float
        Of the simulated recordings, in turn.
    seed : int
        Of the simulation.

    Raises
    ------
    FileNotFoundError
        If a folder holds no NWB file.
    """
    if not nwb:
        like = replace(population or PopulationSettings(), bin_s=settings.bin_s)
        return write_windows(folder, simulate_recordings(count, like, seed, snrs), settings.n_bins)
    binned = []
    for path in _files([nwb] if isinstance(nwb, (str, Path)) else nwb):
        recording = load_nwb(path, behaviour=(behaviour,) if behaviour else ())
        if behaviour:
            found = recording.behaviour[behaviour]
            measured = found.times[np.isfinite(found.values).all(axis=1)]
            recording = recording.within(float(measured[0]), float(measured[-1]))
        binned.append(bin_recording(recording, settings.bin_s, behaviour))
    return write_windows(folder, binned, settings.n_bins)


def _files(given: Sequence[str | Path]) -> list[Path]:
    files = []
    for path in map(Path, given):
        inside = sorted(path.rglob("*.nwb")) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(
                f"{path} holds no NWB file (*.nwb). Download some first, such as `dandi download DANDI:000140`."
            )
        files += inside
    return files
