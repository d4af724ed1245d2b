"""Time series of an NWB file: behaviours, and the traces of imaging (RoiResponseSeries)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.behaviour import Behaviour


def series_of(file: Any, wanted: str, path: Path) -> Any:
    """Return the time series with a name, or with the end of a path such as ``Position/pos``.

    Raises
    ------
    RecordingError
        If there is none, or more than one.
    """
    parts = file.objects.values()
    series = {_place(part): part for part in parts if hasattr(part, "timestamps") and hasattr(part, "data")}
    if wanted in series:
        return series[wanted]  # a whole path
    found = {place: part for place, part in series.items() if place.endswith(f"/{wanted}")}
    if not found:
        names = sorted({part.name for part in series.values()})
        raise RecordingError(f"{path.name} has no series {wanted!r}; it has {', '.join(names[:20]) or 'none'}.")
    if len(found) > 1:
        raise RecordingError(
            f"{path.name} has {len(found)} series of the name {wanted!r}: {', '.join(sorted(found))}. Give one of "
            "these paths."
        )
    return next(iter(found.values()))


def roi_series(file: Any, wanted: str, path: Path) -> Any:
    """Return the RoiResponseSeries with a name or path; without one, the only series, or the only one in DfOverF.

    Raises
    ------
    RecordingError
        If there is none, or which one is not clear.
    """
    if wanted:
        found = series_of(file, wanted, path)
        if not hasattr(found, "rois"):
            raise RecordingError(f"{path.name}: {wanted!r} is a {type(found).__name__}, no RoiResponseSeries.")
        return found
    every = {_place(part): part for part in file.objects.values() if hasattr(part, "rois") and hasattr(part, "data")}
    chosen = {place: part for place, part in every.items() if type(part.parent).__name__ == "DfOverF"} or every
    if len(chosen) != 1:
        names = ", ".join(sorted(every))
        raise RecordingError(
            f"{path.name} has {len(every)} RoiResponseSeries{': ' + names if names else ' and no sorted units'}. "
            "Name one in the column series of the table of recordings."
        )
    return next(iter(chosen.values()))


def behaviour_of(file: Any, wanted: str, path: Path, notes: list[str]) -> Behaviour:
    """Return a series as a behaviour, with the conversion and the offset that the file states.

    Samples at a time that is not finite, or not later than the one before, are left out and noted.
    """
    found = series_of(file, wanted, path)
    data = np.asarray(found.data[:], float)
    values = data * (1.0 if found.conversion is None else found.conversion) + (getattr(found, "offset", None) or 0.0)
    times = times_of(found, len(values))
    known = np.isfinite(times)
    late = np.maximum.accumulate(np.where(known, times, -np.inf))
    kept = known & (times > np.concatenate([[-np.inf], late[:-1]]))
    if not kept.all():
        notes.append(
            f"left out {int((~kept).sum())} of {len(kept)} samples of {wanted}: their times are not finite or do not "
            "increase"
        )
    if kept.sum() < 2:
        raise RecordingError(f"{path.name}: {wanted} has {int(kept.sum())} samples at increasing times; it needs 2.")
    unit = str(found.unit or "1")
    radian = unit.lower() in ("rad", "radian", "radians")
    return Behaviour(times[kept], values[kept], "rad" if radian else unit, circular=radian)


def times_of(found: Any, samples: int) -> np.ndarray:
    """Return the times of a series' samples, in s."""
    if found.timestamps is not None:
        return np.asarray(found.timestamps[:samples], float)
    return (found.starting_time or 0.0) + np.arange(samples) / found.rate


def _place(part: Any) -> str:
    """Return the path of a part from the root: ``/behavior/Position/pos``."""
    names, parent = [part.name], part.parent
    while parent is not None and parent.name != "root":
        names.append(parent.name)
        parent = parent.parent
    return "/" + "/".join(reversed(names))
