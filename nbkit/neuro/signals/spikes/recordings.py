"""Recordings of spikes and of calcium as manifest rows, and the windows of one row (phase 49).

A row holds everything that its recording needs, so rows can be processed one by one, in any order, on any machine that
has the data. What is said of a recording by a column of the table is used before what is said of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.recordings.identity import TABLE, read_table
from nbkit.neuro.signals.recordings.listing import unique_keys
from nbkit.neuro.signals.spikes.array_files import load_matclust, load_npz
from nbkit.neuro.signals.spikes.behaviour import resting
from nbkit.neuro.signals.spikes.binned import BinnedRecording, bin_recording
from nbkit.neuro.signals.spikes.dandi import dandi_assets, fetch_asset
from nbkit.neuro.signals.spikes.imaging import load_imaging
from nbkit.neuro.signals.spikes.nwb import load_nwb, opened
from nbkit.neuro.signals.spikes.recording import SpikeRecording
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.windows import SpikeShard

SOURCES = ("folder", "dandi", "synthetic")
SUFFIXES = (".nwb", ".npz", ".mat")
COLUMNS = ("behaviour", "within", "start_s", "stop_s", "series", "species", "modality", "time_unit", "subject",
           "least_speed")  # fmt: skip
_LATER = ("least_speed",)  # columns and settings that older stores lack
_AS_MS = 300  # a behaviour that lasts so many times longer than the spikes is in ms
_MUCH_REST = 0.2  # share of bins at one value that is worth a note
SNRS = (0.85, 0.7, 0.5, 0.35)  # of simulated recordings, in turn


@checked
@dataclass(frozen=True)
class SpikeWindowSettings:
    """How recordings become windows; all but the first three may differ in each recording, by columns of the table."""

    bin_s: float = 0.02
    window_s: float = 2.0
    least_hz: float = 0.0  # units that fire less are left out
    behaviour: str = ""
    within: str = ""
    time_unit: str = "s"
    drop_quality: tuple[str, ...] = ("noise",)
    least_speed: float = 0.0  # behaviour that changes less, in its unit per s, is left out; 0: none is

    def stored(self) -> dict[str, Any]:
        """Return the settings as a store keeps them; those added later only if set, so that older stores go on."""
        return {name: value for name, value in vars(self).items() if value or name not in _LATER}

    @property
    def n_bins(self) -> int:
        """Bins of a window."""
        return max(1, round(self.window_s / self.bin_s))

    @classmethod
    def free(cls) -> SpikeWindowSettings:
        """Return windows of 100 bins of 20 ms."""
        return cls()

    @classmethod
    def smoke(cls) -> SpikeWindowSettings:
        """Return the windows of the smoke settings of the network, 50 bins of 20 ms."""
        return cls(window_s=1.0)


def spike_rows(
    source: str, path: str | None = None, table: str | None = None, count: int = 4, *,
    say: Callable[[str], None] = print,
) -> list[dict[str, str]]:  # fmt: skip
    """List recordings as manifest rows with key, source, path and the columns of the table.

    Parameters
    ----------
    source : {"folder", "dandi", "synthetic"}
        A folder (or one file) of NWB, npz and mat files; a dandiset, see `dandi_assets`; simulated populations.
    path : str, optional
        The folder, or the dandiset.
    table : str, optional
        A table with the column file (the path in the folder or dandiset) and any of behaviour, within, start_s, stop_s,
        series, species, modality, time_unit, subject and least_speed; by default ``recordings.tsv`` in the folder, if
        it is there. Only its files are listed.
    count : int
        Number of simulated recordings.
    say : callable
        Prints one line about what was left out.

    Raises
    ------
    ValueError, FileNotFoundError, RecordingError
        If the source is unknown, or there is no recording.
    """
    if source not in SOURCES:
        raise ValueError(f"{source=} is not known; give one of {', '.join(SOURCES)}.")
    if source == "synthetic":
        return [{"key": f"rec{n:03d}", "source": source, "path": str(n)} for n in range(count)]
    if source == "dandi":
        assets = dandi_assets(path or "")
        keys = unique_keys([asset["path"] for asset in assets])
        rows = [
            {"key": keys[a["path"]], "source": source, "path": a["path"], "asset": a["asset"], "version": a["version"]}
            for a in assets
        ]
        return _with_table(rows, {row["key"]: row["path"] for row in rows}, Path(table) if table else None, say)
    given = Path(path or "").expanduser()
    if not path or not given.exists():
        seen = f"PATH={path!r} is not here." if path else "PATH is not set."
        raise FileNotFoundError(f"{seen} Give a folder with NWB, npz or mat files, or one file.")
    root = given if given.is_dir() else given.parent
    every = [p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()] if given.is_dir() else [given]
    files = {p.relative_to(root).as_posix(): p for p in sorted(every)}
    hidden = [name for name in files if any(part.startswith(".") for part in PurePosixPath(name).parts)]
    if hidden:
        say(f"left out {len(hidden)} hidden files in {root.name}")
    files = {name: p for name, p in files.items() if name not in hidden}
    if not files:
        raise FileNotFoundError(f"{given} holds no file of spikes or calcium ({', '.join(SUFFIXES)}).")
    keys = unique_keys(list(files))
    rows = [{"key": keys[name], "source": source, "path": str(p)} for name, p in files.items()]
    place = Path(table) if table else root / TABLE
    if table and not place.is_file():
        raise FileNotFoundError(f"TABLE={table!r} is not a file here. Give the table of the recordings.")
    return _with_table(rows, {keys[name]: name for name in files}, place if place.is_file() else None, say)


def make_windows(
    row: Mapping[str, str],
    settings: SpikeWindowSettings,
    population: PopulationSettings | None = None,
    seed: int = 2025,
) -> dict[str, Any]:
    """Return the windows of one recording as the arrays that an item saves (see `BinnedRecording.windows`), with notes.

    Parameters
    ----------
    row : mapping
        One of `spike_rows`.
    settings : SpikeWindowSettings
    population : PopulationSettings, optional
        Of simulated recordings.
    seed : int
        Of simulated recordings.

    Raises
    ------
    RecordingError, ValueError
        If the recording cannot be used; the message says why and what to do.
    """
    notes: list[str] = []
    with TemporaryDirectory() as scratch:
        binned = _binned(row, settings, population, seed, Path(scratch), notes)
    binned = _moving(binned, row.get("least_speed") or settings.least_speed, notes)
    if binned.activity == "spikes" and settings.least_hz:
        rate = (
            np.where(binned.seen, binned.counts, 0).sum(axis=0) / np.maximum(binned.seen.sum(axis=0), 1) / binned.bin_s
        )
        kept = rate >= settings.least_hz
        notes.append(f"left out {int((~kept).sum())} of {len(kept)} units below {settings.least_hz:g} Hz")
        binned = binned.keep(kept)
    if not binned.counts.any():
        notes.append("no unit fired in this time")
    share = float(np.broadcast_to(binned.seen, binned.counts.shape).mean())
    if share < 0.999 and binned.parts is None:
        notes.append(f"{1 - share:.1%} of the bins of units were not observed and are masked")
    return {**binned.windows(settings.n_bins), "notes": np.array(json.dumps(notes))}


def summarize(paths: Sequence[str | Path], most: int = 40) -> list[str]:
    """Return one line for each file of windows, with what was left out of the recording."""
    lines = []
    for path in paths:
        shard = SpikeShard(path)
        with np.load(path) as file:
            notes = json.loads(str(file["notes"])) if "notes" in file.files else []
        task = f"{shard.task} ({', '.join(shard.classes) or shard.behaviour_unit})" if shard.task else "no behaviour"
        lines.append(
            f"{shard.name}: {shard.n_units} units ({shard.activity}), {len(shard)} windows of {shard.n_bins} x "
            f"{shard.bin_s:g} s, {task}, SNR {shard.snr:.2f}" + "".join(f"; {note}" for note in notes)
        )
    return lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else [])


def _binned(
    row: Mapping[str, str], settings: SpikeWindowSettings, population: PopulationSettings | None, seed: int,
    scratch: Path, notes: list[str],
) -> BinnedRecording:  # fmt: skip
    s, name = settings, row["key"]
    if row["source"] == "synthetic":
        number = int(row["path"])
        like = replace(population or PopulationSettings(), bin_s=s.bin_s, snr=SNRS[number % len(SNRS)])
        return simulate_population(like, name, seed)
    path = fetch_asset(row, scratch) if row["source"] == "dandi" else Path(row["path"])
    said = {column: row[column] for column in COLUMNS if row.get(column)}
    behaviour, within = said.get("behaviour", s.behaviour), said.get("within", s.within)
    facts = {column: said[column] for column in ("species", "modality", "subject") if column in said}
    if path.suffix.lower() != ".nwb":
        load = load_npz if path.suffix.lower() == ".npz" else load_matclust
        found = load(path, name=name, behaviour=behaviour, notes=notes, **facts)
        return _of_bins(found, s) if isinstance(found, BinnedRecording) else bin_recording(found, s.bin_s, behaviour)
    interval = _interval(said)
    if said.get("series") or not _has_units(path, notes):
        imaged = load_imaging(
            path, s.bin_s, name=name, series=said.get("series", ""), behaviour=behaviour, interval=interval,
            within=within, species=said.get("species", ""), notes=notes,
        )  # fmt: skip
        return imaged
    recording = load_nwb(
        path, name=name, behaviour=(behaviour,) if behaviour else (), interval=interval, within=within, notes=notes,
        time_unit=said.get("time_unit", s.time_unit), drop_quality=s.drop_quality, species=said.get("species", ""),
        modality=said.get("modality", "ecephys"),
    )  # fmt: skip
    return bin_recording(_where_measured(recording, behaviour, notes), s.bin_s, behaviour)


def _moving(binned: BinnedRecording, least_speed: str | float, notes: list[str]) -> BinnedRecording:
    """Leave out behaviour that changes too slowly; say how much of it stands still."""
    try:
        least = float(least_speed)
    except ValueError:
        least = float("nan")
    if not (np.isfinite(least) and least >= 0):
        raise RecordingError(
            f"least_speed = {least_speed!r}; it is a number in the behaviour's unit per s, 0 for none."
        )
    known = np.isfinite(binned.behaviour).all(axis=1)
    if binned.classes or not binned.task or not known.any():
        if least:
            what = "is a class" if binned.classes else "is not there"
            raise RecordingError(f"{binned.name}: least_speed = {least:g}, but a behaviour with a speed {what}.")
        return binned
    if least:
        slow = resting(binned.behaviour, binned.bin_s, least)
        notes.append(f"left out {slow.sum() / known.sum():.1%} of {binned.task}: it changed by less than {least:g}/s")
        if (slow | ~known).all():
            raise RecordingError(
                f"{binned.name}: {binned.task} never changes by {least:g}/s. Give a lower least_speed."
            )
        return replace(binned, behaviour=np.where(slow[:, None], np.nan, binned.behaviour))
    same = float((np.diff(binned.behaviour[known], axis=0) == 0).all(axis=1).mean()) if known.sum() > 1 else 0.0
    if same > _MUCH_REST:
        notes.append(
            f"{binned.task} stands still in {same:.0%} of the bins: rest, or nothing was tracked; LEAST_SPEED leaves "
            "such time out"
        )
    return binned


def _where_measured(recording: SpikeRecording, behaviour: str, notes: list[str]) -> SpikeRecording:
    """Cut a recording to the time in which its behaviour was measured."""
    if not behaviour:
        return recording
    known = recording.behaviour[behaviour]
    times = known.times[np.isfinite(known.values).all(axis=1)]
    if len(times) < 2:
        raise RecordingError(f"{recording.name}: {behaviour} is not known at any time. Name another behaviour.")
    _check_same_clock(recording, behaviour, times)
    cut = recording.within(float(times[0]), float(times[-1]))
    if recording.duration_s - cut.duration_s > 1:
        notes.append(f"cut to {cut.duration_s:.6g} of {recording.duration_s:.6g} s, in which {behaviour} was measured")
    return cut


def _check_same_clock(recording: SpikeRecording, behaviour: str, times: np.ndarray) -> None:
    """Refuse a behaviour that was measured at another time than the spikes, or whose times can only be in ms."""
    fired = [train for train in recording.times if len(train)]
    if not fired:
        return
    first, last = min(float(train[0]) for train in fired), max(float(train[-1]) for train in fired)
    spans = f"{behaviour} runs from {times[0]:.6g} to {times[-1]:.6g} s, the spikes from {first:.6g} to {last:.6g} s"
    if times[-1] < first or times[0] > last:
        raise RecordingError(f"{recording.name}: {spans}, so there is no common time. Correct the clock of one.")
    if last - first > 1 and times[-1] - times[0] > _AS_MS * (last - first):
        raise RecordingError(
            f"{recording.name}: {spans}. The timestamps of {behaviour} seem to be in ms; NWB demands s. Correct "
            "them, or name no behaviour."
        )


def _of_bins(found: BinnedRecording, s: SpikeWindowSettings) -> BinnedRecording:
    if abs(found.bin_s - s.bin_s) > 0.02 * found.bin_s:
        raise RecordingError(
            f"{found.name}: its trials are sampled every {found.bin_s:.4g} s, the bins have {s.bin_s:g} s. Use BIN_S = "
            f"{found.bin_s:.4g}."
        )
    return found


def _has_units(path: Path, notes: list[str]) -> bool:
    with opened(path, notes) as file:
        return file.units is not None and "spike_times" in file.units.colnames


def _interval(said: Mapping[str, str]) -> tuple[float, float] | None:
    if "start_s" not in said and "stop_s" not in said:
        return None
    try:
        return float(said["start_s"]), float(said["stop_s"])
    except (KeyError, ValueError):
        raise RecordingError(
            f"start_s = {said.get('start_s')!r} and stop_s = {said.get('stop_s')!r}: give both, in s, or none."
        ) from None


def _with_table(
    rows: list[dict[str, str]], names: Mapping[str, str], table: Path | None, say: Callable[[str], None]
) -> list[dict[str, str]]:
    """Return rows with the columns of the table, and only those that it names."""
    if table is None:
        return rows
    facts = read_table(table, needed=("file",))
    strangers = sorted(set(facts) - set(names.values()))
    if strangers:
        raise RecordingError(
            f"{table.name} names {', '.join(strangers[:4])} ({len(strangers)} files), which are not there. Correct the "
            "column file, or add the files."
        )
    unknown = sorted({column for row in facts.values() for column in row} - {"file", *COLUMNS})
    if unknown:
        say(f"columns of {table.name} that are not used: {', '.join(unknown)}; used are {', '.join(COLUMNS)}")
    kept = []
    for row in rows:
        if names[row["key"]] in facts:
            said = facts[names[row["key"]]]
            kept.append(row | {c: said.get(c, "") for c in COLUMNS if c not in _LATER or said.get(c)})
    if len(kept) < len(rows):
        say(f"left out {len(rows) - len(kept)} files that {table.name} does not name")
    return kept
