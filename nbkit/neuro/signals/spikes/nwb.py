"""Load recordings from NWB files (https://nwb.org) with pynwb.

Only what a file states is used, and what it says of observed time is kept: time outside the observed intervals of a
unit, and inside ``invalid_times``, is masked and never taken for silence. Epochs and trials are labels of time, not
limits of a recording, except where a file has spikes inside them only. Each decision is a note for the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.heard import heard
from nbkit.neuro.signals.spikes.intervals import inside, joined, without
from nbkit.neuro.signals.spikes.nwb_series import behaviour_of
from nbkit.neuro.signals.spikes.recording import SpikeRecording

SCALES = {"s": 1.0, "ms": 1e-3}
_QUALITIES = ("quality", "unit_quality", "ks_label", "KSLabel", "cluster_group", "group")
_REGIONS = ("location", "brain_area", "region", "peak_channel_location")
_EXPECTED = 20  # spikes that should have fallen outside epochs or trials, if spikes had been kept there
_SHORTEST_GAP = 0.5  # s; in no recording in s are almost all spikes of every unit further apart than this


def load_nwb(
    path: str | Path,
    *,
    name: str = "",
    behaviour: Sequence[str] = (),
    interval: tuple[float, float] | None = None,
    within: str = "",
    modality: str = "ecephys",
    species: str = "",
    time_unit: str = "s",
    drop_quality: Sequence[str] = ("noise",),
    notes: list[str] | None = None,
) -> SpikeRecording:
    """Load the units of an NWB file.

    Parameters
    ----------
    path : path
    name : str
        Name of the recording; by default the file name.
    behaviour : sequence of str
        Names of time series in the file; series in radians are circular. A path, such as ``Position/pos``, tells two
        series of one name apart.
    interval : (start, stop), optional
        In s. By default from the first to the last time that the file states: of observed intervals, or else of spikes,
        epochs, trials and the behaviours.
    within : str
        Observe only this table of intervals ("trials", "epochs", or another of the file), or its rows with a tag
        ("epochs:wake").
    modality : str
    species : str
        By default that of the subject.
    time_unit : {"s", "ms"}
        Unit of the spike times and observed intervals in the file; NWB demands s.
    drop_quality : sequence of str
        Units with this quality are left out.
    notes : list of str, optional
        Gets one line for each decision, and the warnings of pynwb.

    Returns
    -------
    recording : SpikeRecording

    Raises
    ------
    FileNotFoundError
        If there is no file.
    RecordingError
        If it cannot be read, holds no units, a series in ``behaviour`` is missing or not unique, or its times are in ms
        although ``time_unit`` is "s".
    """
    notes = [] if notes is None else notes
    if time_unit not in SCALES:
        raise ValueError(f"{time_unit=} is not known; give one of {', '.join(SCALES)}.")
    with opened(path, notes) as file:
        path = Path(path)
        if file.units is None or len(file.units) == 0 or "spike_times" not in file.units.colnames:
            raise RecordingError(f"{path.name} holds no sorted units; give the file of the recording that has them.")
        kept = _kept_units(file.units, drop_quality, notes, path)
        times = _spike_times(file.units, kept, SCALES[time_unit], notes, path)
        _check_clock(times, time_unit, path)
        found = {wanted: behaviour_of(file, wanted, path, notes) for wanted in behaviour}
        observed = _observed(file, kept, SCALES[time_unit], notes)
        span = interval or _span(file, times, observed, [found[wanted].times for wanted in behaviour], path)
        observed = _masked(file, observed, span, times, within, notes, path)
        times = [train[(train >= span[0]) & (train <= span[1])] for train in times]
        return SpikeRecording(
            name or path.stem,
            tuple(times),
            tuple(str(file.units.id[unit]) for unit in kept),
            span,
            observed=tuple(observed),
            regions=_regions(file.units, kept),
            species=species or subject_fact(file, "species") or "unknown",
            modality=modality,
            subject=subject_fact(file, "subject_id"),
            behaviour=found,
        )


@contextmanager
def opened(path: str | Path, notes: list[str]) -> Iterator[Any]:
    """Yield the content of an NWB file; warnings about the file become notes.

    Raises
    ------
    FileNotFoundError, RecordingError
        If there is no file, or it is not an NWB file that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no NWB file {path}; give a path to one, such as `dandi download` writes.")
    import h5py
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        # of newer pynwb about the class of an older file, whose content is read all the same
        warnings.filterwarnings("ignore", "The 'manufacturer' field is deprecated", DeprecationWarning)
        try:
            with heard(notes), h5py.File(path, "r"):
                pass
        except OSError as error:
            raise RecordingError(
                f"{path.name} ({path.stat().st_size} bytes) cannot be opened as HDF5: {error}. It is damaged or not an "
                "NWB file; fetch it again."
            ) from error
        with NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
            try:
                with heard(notes):
                    file = io.read()
            except Exception as error:
                raise RecordingError(
                    f"{path.name} is HDF5, but pynwb cannot read it as NWB: {error}. Check it with `nwbinspector`."
                ) from error
            yield file


def _kept_units(units: Any, drop: Sequence[str], notes: list[str], path: Path) -> list[int]:
    column = next((name for name in _QUALITIES if name in units.colnames), None)
    quality = [str(value).strip().lower() for value in units[column][:]] if column else [""] * len(units)
    left = [n for n, value in enumerate(quality) if value in {word.lower() for word in drop}]
    if left:
        words = sorted({quality[n] for n in left})
        notes.append(f"left out {len(left)} of {len(units)} units with {column} = {', '.join(words)}")
    if len(left) == len(units):
        raise RecordingError(
            f"{path.name}: all {len(units)} units have {column} {', '.join(sorted(set(quality)))}, which are left out. "
            "Name fewer in drop_quality."
        )
    return [n for n in range(len(units)) if n not in set(left)]


def _spike_times(units: Any, kept: Sequence[int], scale: float, notes: list[str], path: Path) -> list[np.ndarray]:
    times, lost, unsorted = [], 0, []
    for unit in kept:
        train = np.asarray(units["spike_times"][unit], float) * scale
        known = np.isfinite(train)
        lost += int((~known).sum())
        train = train[known]
        if (np.diff(train) < 0).any():
            unsorted.append(str(units.id[unit]))
            train = np.sort(train)
        times.append(train)
    if lost:
        notes.append(f"left out {lost} spike times that are not finite")
    if unsorted:
        notes.append(f"sorted the spike times of units {', '.join(unsorted[:5])}, which did not increase")
    return times


def _check_clock(times: Sequence[np.ndarray], time_unit: str, path: Path) -> None:
    """Refuse times that can only be in another unit than s."""
    gaps = [float(np.quantile(np.diff(train), 0.02)) for train in times if len(train) >= 100]
    if time_unit == "s" and gaps and min(gaps) >= _SHORTEST_GAP:
        last = max(float(train[-1]) for train in times if len(train))
        raise RecordingError(
            f"{path.name}: 98 % of the gaps between spikes of every unit are above {min(gaps):.3g} s, and the last "
            f"spike is at {last:,.0f} s ({last / 3600:.1f} h). These times seem to be in ms; NWB demands s. "
            "Give time_unit='ms' if they are."
        )


def _observed(file: Any, kept: Sequence[int], scale: float, notes: list[str]) -> list[np.ndarray]:
    if "obs_intervals" not in file.units.colnames:
        return []
    every = [np.asarray(file.units["obs_intervals"][unit], float).reshape(-1, 2) * scale for unit in kept]
    if not any(len(part) for part in every):
        return []
    whole = [np.isfinite(part).all(axis=1) & (part[:, 0] <= part[:, 1]) for part in every]
    if lost := sum(int((~rows).sum()) for rows in whole):
        notes.append(f"left out {lost} obs_intervals without a finite start and later stop")
    parts = [joined(part[rows]) for part, rows in zip(every, whole, strict=True)]
    return parts[:1] if all(np.array_equal(part, parts[0]) for part in parts) else parts


def _span(
    file: Any, times: Sequence[np.ndarray], observed: Sequence[np.ndarray], known: Sequence[np.ndarray], path: Path
) -> tuple[float, float]:
    if observed:
        every = np.concatenate(observed)
        return float(every[:, 0].min()), float(every[:, 1].max())
    ends = [train[[0, -1]] for train in times if len(train)]
    ends += [part[[0, -1]] for part in known]
    for table in (file.epochs, file.trials):
        rows = table_intervals(table)
        ends += [rows.ravel()] if len(rows) else []
    if not ends:
        raise RecordingError(
            f"{path.name}: no unit ever fired, and the file states no observed interval, epoch or trial; give the "
            "recorded interval (columns start_s and stop_s of the table of recordings)."
        )
    every = np.concatenate(ends)
    return float(every.min()), float(every.max())


def _masked(
    file: Any, observed: list[np.ndarray], span: tuple[float, float], times: Sequence[np.ndarray], within: str,
    notes: list[str], path: Path,
) -> list[np.ndarray]:  # fmt: skip
    """Return the observed intervals without invalid times and what lies outside the wanted, or only recorded, time."""
    whole = np.array([span])
    invalid = table_intervals(file.invalid_times)
    only = chosen_intervals(file, within, span, notes, path)
    if not within and not observed:
        only = _only_recorded({"epochs": file.epochs, "trials": file.trials}, span, times, notes)
    cut = [without(part, without(whole, only)) for part in (observed or [whole])]
    if len(invalid):
        notes.append(f"masked {len(invalid)} invalid_times, {np.diff(invalid, axis=1).sum():.6g} s")
        cut = [without(part, invalid) for part in cut]
    own = cut if len(cut) > 1 else cut * len(times)
    stray = sum(int((~inside(train, part)).sum()) for train, part in zip(times, own, strict=True))
    if stray:
        notes.append(f"left out {stray} spikes outside the observed time")
    if not any(len(part) for part in cut):
        raise RecordingError(
            f"{path.name}: no time is left that was observed. Check within={within!r} and the file's invalid_times."
        )
    return cut


def chosen_intervals(file: Any, within: str, span: tuple[float, float], notes: list[str], path: Path) -> np.ndarray:
    """Return the wanted table of intervals, or its rows with a tag; the whole span if none is wanted."""
    tables = {"epochs": file.epochs, "trials": file.trials, **dict(file.intervals or {})}
    for table_name in ("epochs", "trials", "invalid_times"):
        _say_lost_rows(tables.get(table_name), table_name, notes)
    if not within:
        return np.array([span])
    only = _chosen(tables, within, path)
    notes.append(f"only {within} is used: {np.diff(only, axis=1).sum():.6g} of {span[1] - span[0]:.6g} s")
    return only


def _only_recorded(
    tables: dict[str, Any], span: tuple[float, float], times: Sequence[np.ndarray], notes: list[str]
) -> np.ndarray:
    """Return the epochs or trials if all spikes lie inside although many were expected outside, else the span."""
    spikes = np.concatenate(list(times)) if len(times) else np.empty(0)
    for table_name in ("epochs", "trials"):
        rows = table_intervals(tables.get(table_name))
        covered = float(np.diff(rows, axis=1).sum())
        outside = span[1] - span[0] - covered
        if not len(rows) or outside <= 0 or not len(spikes) or not inside(spikes, rows).all():
            continue
        if len(spikes) / covered * outside > _EXPECTED:
            notes.append(
                f"all {len(spikes)} spikes lie inside {table_name}: the {outside:.6g} s outside are masked as not known"
            )
            return rows
    return np.array([span])


def table_intervals(table: Any, chosen: np.ndarray | None = None) -> np.ndarray:
    """Return the finite intervals of a table of NWB, joined, (intervals, 2) in s; empty without a table."""
    if table is None or not len(table):
        return np.empty((0, 2))
    rows = np.stack([np.asarray(table[name][:], float) for name in ("start_time", "stop_time")], axis=1)
    return joined(rows[np.isfinite(rows).all(axis=1) & (True if chosen is None else chosen)])


def _say_lost_rows(table: Any, table_name: str, notes: list[str]) -> None:
    if table is None or not len(table):
        return
    rows = np.stack([np.asarray(table[name][:], float) for name in ("start_time", "stop_time")], axis=1)
    lost = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & (rows[:, 0] <= rows[:, 1])))
    if len(lost):
        notes.append(f"left out rows {', '.join(map(str, lost[:5]))} of {table_name}: no finite start and later stop")


def _chosen(tables: dict[str, Any], within: str, path: Path) -> np.ndarray:
    table_name, _, tag = within.partition(":")
    table = tables.get(table_name)
    there = [found for found, part in tables.items() if part is not None]
    if table is None:
        raise RecordingError(
            f"{path.name} has no table {table_name!r} of intervals; it has {', '.join(there) or 'none'}."
        )
    if not tag:
        return table_intervals(table)
    text = [name for name in table.colnames if name not in ("start_time", "stop_time", "timeseries")]
    rows = [{word for name in text for word in _words(table[name][n])} for n in range(len(table))]
    chosen = np.array([tag in words for words in rows])
    if not chosen.any():
        words = ", ".join(sorted(set().union(*rows))[:12])
        raise RecordingError(f"{path.name}: no row of {table_name} is tagged {tag!r}; there are {words or 'no tags'}.")
    return table_intervals(table, chosen)


def _words(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, (list, tuple, np.ndarray)) else [str(value)]


def _regions(units: Any, kept: Sequence[int]) -> tuple[str, ...]:
    for column in _REGIONS:
        if column in units.colnames:
            return tuple(str(units[column][unit]) for unit in kept)
    if "electrodes" in units.colnames:
        found = []
        for unit in kept:
            rows = units["electrodes"][unit]
            there = rows["location"] if "location" in getattr(rows, "columns", ()) else []
            found.append("/".join(dict.fromkeys(str(part) for part in there)))
        return tuple(found)
    if "electrode_group" in units.colnames:
        return tuple(str(getattr(units["electrode_group"][unit], "location", "")) for unit in kept)
    return ("",)


def subject_fact(file: Any, fact: str) -> str:
    return str(getattr(file.subject, fact, None) or "") if file.subject is not None else ""
