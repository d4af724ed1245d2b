"""Load recordings from NWB files (https://nwb.org) with pynwb.

Only what a file states is used: a series is read as behaviour only if the caller names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.spikes.recording import Behaviour, SpikeRecording


def load_nwb(
    path: str | Path,
    *,
    name: str = "",
    behaviour: Sequence[str] = (),
    interval: tuple[float, float] | None = None,
    modality: str = "ecephys",
    species: str = "",
) -> SpikeRecording:
    """Load the units of an NWB file.

    Parameters
    ----------
    path : path
    name : str
        Name of the recording; by default the file name.
    behaviour : sequence of str
        Names of time series in the file; series in radians are circular.
    interval : (start, stop), optional
        In s. By default the span of the epochs, else of the units' observed intervals, else from the first to the last
        spike.
    modality : str
    species : str
        By default that of the subject.

    Returns
    -------
    recording : SpikeRecording

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it holds no units, or a series in ``behaviour`` is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no NWB file {path}; give a path to one, such as `dandi download` writes.")
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
        file = io.read()
        if file.units is None or len(file.units) == 0 or "spike_times" not in file.units.colnames:
            raise ValueError(f"{path.name} holds no sorted units; give the file of the recording that has them.")
        units = file.units
        times = tuple(np.asarray(units["spike_times"][i], float) for i in range(len(units)))
        return SpikeRecording(
            name or path.stem,
            times,
            tuple(str(unit) for unit in units.id[:]),
            interval or _interval(file, times),
            regions=_regions(units),
            species=species or _of_subject(file, "species") or "unknown",
            modality=modality,
            subject=_of_subject(file, "subject_id"),
            behaviour={wanted: _behaviour(file, wanted, path) for wanted in behaviour},
        )


def _interval(file: Any, times: Sequence[np.ndarray]) -> tuple[float, float]:
    if file.epochs is not None and len(file.epochs):
        return float(np.min(file.epochs["start_time"][:])), float(np.max(file.epochs["stop_time"][:]))
    if "obs_intervals" in file.units.colnames:
        every = np.concatenate([np.asarray(file.units["obs_intervals"][i]) for i in range(len(file.units))])
        return float(every[:, 0].min()), float(every[:, 1].max())
    fired = [train for train in times if len(train)]
    if not fired:
        raise ValueError("No unit of the file ever fired, and it states no recording interval; give interval=.")
    return float(min(train[0] for train in fired)), float(max(train[-1] for train in fired))


def _regions(units: Any) -> tuple[str, ...]:
    for column in ("location", "brain_area", "peak_channel_location"):
        if column in units.colnames:
            return tuple(str(region) for region in units[column][:])
    return ("",)


def _of_subject(file: Any, fact: str) -> str:
    return str(getattr(file.subject, fact, None) or "") if file.subject is not None else ""


def _behaviour(file: Any, wanted: str, path: Path) -> Behaviour:
    parts = file.objects.values()
    series = {part.name: part for part in parts if hasattr(part, "timestamps") and hasattr(part, "data")}
    if wanted not in series:
        raise ValueError(f"{path.name} has no series {wanted!r}; it has {', '.join(sorted(series)) or 'none'}.")
    found = series[wanted]
    values = np.asarray(found.data[:], float) * (found.conversion or 1.0)
    if found.timestamps is not None:
        times = np.asarray(found.timestamps[:], float)
    else:
        times = (found.starting_time or 0.0) + np.arange(len(values)) / found.rate
    unit = str(found.unit or "1")
    radian = unit.lower() in ("rad", "radian", "radians")
    return Behaviour(times, values, "rad" if radian else unit, circular=radian)
