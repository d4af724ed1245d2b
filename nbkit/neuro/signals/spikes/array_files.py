"""Recordings in npz and mat files: lists of spikes, traces of trials, and tetrodes sorted with MatClust."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.behaviour import Behaviour
from nbkit.neuro.signals.spikes.binned import BinnedRecording
from nbkit.neuro.signals.spikes.imaging import trials_recording
from nbkit.neuro.signals.spikes.recording import SpikeRecording

_UNITS = ("spike_clusters", "spike_units", "spike_ids")
TRACKING = ".videoPositionTracking"  # of Trodes, beside the spikes


def load_npz(
    path: str | Path, *, name: str = "", behaviour: str = "", notes: list[str] | None = None, **facts: Any
) -> SpikeRecording | BinnedRecording:
    """Load an npz file in one of two forms.

    Spikes: ``spike_times`` in s and ``spike_clusters``, one per spike. Imaging: ``dff`` (trials, units, samples) with
    ``time_s`` (samples,) from the stimulus; the behaviour is the class of a trial, one of the arrays with one value a
    trial, such as ``direction_deg``. ``direction_deg % 180`` takes the remainder, here the orientation.

    Raises
    ------
    FileNotFoundError, RecordingError
        If there is no such file, it is damaged, has another form, or the behaviour is missing.
    """
    path, notes = Path(path), [] if notes is None else notes
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in file.files}
    except Exception as error:
        raise RecordingError(f"{path.name} cannot be read as npz: {error}. Fetch it again.") from error
    if "spike_times" in held and any(key in held for key in _UNITS):
        if behaviour:
            raise RecordingError(f"{path.name} holds spikes only, no behaviour {behaviour!r}. Give behaviour=''.")
        units = next(held[key] for key in _UNITS if key in held)
        times = np.asarray(held["spike_times"], float)
        order = np.argsort(times, kind="stable")
        notes.append("the file states no recorded interval: from its first to its last spike")
        return SpikeRecording.from_arrays(
            name or path.stem, times[order], units[order], **({"modality": "ecephys"} | facts)
        )
    if "dff" in held and held["dff"].ndim == 3:
        return _trials(path, name or path.stem, held, behaviour, {"modality": "two-photon"} | facts)
    raise RecordingError(
        f"{path.name} holds {', '.join(f'{key} {value.shape}' for key, value in held.items()) or 'nothing'}; it needs "
        "spike_times and spike_clusters, or dff (trials, units, samples)."
    )


def load_matclust(
    path: str | Path, *, name: str = "", behaviour: str = "", notes: list[str] | None = None, **facts: Any
) -> SpikeRecording:
    """Load tetrodes sorted with MatClust, and the position that Trodes tracked, from a file beside it.

    The interval is that of the tracking, or else from the first to the last spike. Where the position is 0, the LED was
    not seen, and the position is not known.

    Raises
    ------
    FileNotFoundError, RecordingError
        If a file is missing, or has another form.
    """
    path, notes = Path(path), [] if notes is None else notes
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    from scipy.io import loadmat

    try:
        held = loadmat(path)
    except Exception as error:
        raise RecordingError(f"{path.name} cannot be read as a mat file: {error}.") from error
    if "spikes" not in held:
        names = ", ".join(key for key in held if not key.startswith("__"))
        raise RecordingError(f"{path.name} holds {names or 'nothing'}; it needs spikes, cells of tetrodes (MatClust).")
    trains: dict[str, np.ndarray] = {}
    _collect(held["spikes"], "", trains)
    beside = sorted(path.parent.glob(f"*{TRACKING}"))
    if behaviour and behaviour != "position":
        raise RecordingError(f"{path.name}: the only behaviour of this form is 'position', not {behaviour!r}.")
    if behaviour and len(beside) != 1:
        raise RecordingError(f"{path.name}: a position needs one file *{TRACKING} beside it; there are {len(beside)}.")
    interval, known = None, {}
    if beside:
        tracked = read_tracking(beside[0])
        interval = float(tracked.times[0]), float(tracked.times[-1])
        known = {"position": tracked} if behaviour else {}
        trains = {unit: t[(t >= interval[0]) & (t <= interval[1])] for unit, t in trains.items()}
    times = np.concatenate(list(trains.values()))
    units = np.concatenate([np.full(len(train), unit) for unit, train in trains.items()])
    return SpikeRecording.from_arrays(
        name or path.parent.name,
        times,
        units,
        units=list(trains),
        interval=interval,
        behaviour=known,
        **({"modality": "ecephys"} | facts),
    )


def read_tracking(path: Path) -> Behaviour:
    """Return the tracked position in px from a file of Trodes, on the clock of the spikes, in s."""
    raw = path.read_bytes()
    head, _, body = raw.partition(b"<End settings>\n")
    clock = re.search(rb"clockrate:\s*(\d+)", head)
    if not body or clock is None or b"<time uint32><xloc uint16><yloc uint16>" not in head:
        raise RecordingError(f"{path.name} is no tracking file of Trodes with the fields time, xloc and yloc.")
    row = np.dtype([("time", "<u4"), ("x", "<u2"), ("y", "<u2"), ("x2", "<u2"), ("y2", "<u2")])
    rows = np.frombuffer(body[: len(body) // row.itemsize * row.itemsize], row)
    times = rows["time"] / float(clock[1])
    place = np.stack([rows["x"], rows["y"]], axis=1).astype(float)
    place[(place == 0).all(axis=1)] = np.nan
    kept = np.concatenate([[True], np.diff(times) > 0])
    return Behaviour(times[kept], place[kept], "px")


def _trials(
    path: Path, name: str, held: dict[str, np.ndarray], behaviour: str, facts: dict[str, Any]
) -> BinnedRecording:
    data, labels = held["dff"], None
    if "time_s" not in held or held["time_s"].shape != data.shape[2:]:
        raise RecordingError(f"{path.name}: dff {data.shape} needs time_s ({data.shape[2]},), in s from the stimulus.")
    if behaviour:
        key, _, remainder = (part.strip() for part in behaviour.partition("%"))
        if key not in held or held[key].shape != data.shape[:1]:
            there = [k for k, value in held.items() if value.shape == data.shape[:1]]
            raise RecordingError(
                f"{path.name} has no {key!r} with one value a trial; it has {', '.join(there) or 'none'}."
            )
        labels = (held[key] % float(remainder) if remainder else held[key]).tolist()
    return trials_recording(name, data, held["time_s"].astype(float), labels, task=behaviour, **facts)


def _collect(cell: Any, place: str, trains: dict[str, np.ndarray]) -> None:
    """Find the spike times in nested cells; a unit's id is its place in them."""
    if isinstance(cell, np.ndarray) and cell.dtype.names and "time" in cell.dtype.names:
        for number, row in enumerate(cell.ravel()):
            times = np.sort(np.asarray(row["time"], float).ravel())
            if len(times):
                trains[f"{place}.{number}" if cell.size > 1 else place] = times
    elif isinstance(cell, np.ndarray) and cell.dtype == object:
        for number, part in enumerate(cell.ravel()):
            _collect(part, f"{place}.{number}" if place else str(number), trains)
