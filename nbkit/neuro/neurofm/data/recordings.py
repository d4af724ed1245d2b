"""Files of windows from NWB files, or from simulated populations if there are none.

The same sources and settings give the same files on every machine, so that a session can create them again.
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
    """Write one file of windows for each recording and return the paths.

    Parameters
    ----------
    folder : path
        Where to write the files.
    settings : NeuroFMSettings
        Only ``bin_s`` and ``n_bins`` are used.
    nwb : path or sequence of path
        NWB files, or folders of them. If empty, ``count`` recordings are simulated and labelled as synthetic.
    behaviour : str
        Name of a behaviour series in each NWB file. The recording is cut to the time in which it was measured.
    count : int
        Number of simulated recordings.
    population : PopulationSettings, optional
        Settings of the simulation, by default ``PopulationSettings()``. Its bins are replaced by those of ``settings``.
    snrs : sequence of float
        SNR of the simulated recordings, used in turn.
    seed : int
        Seed of the simulation.

    Returns
    -------
    paths : list of Path

    Raises
    ------
    FileNotFoundError
        If a folder has no NWB file.
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
                f"{path} holds no NWB file (*.nwb). Download one first, for example: dandi download DANDI:000140"
            )
        files += inside
    return files
