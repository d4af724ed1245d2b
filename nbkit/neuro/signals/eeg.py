"""Turn EEG recordings into windows.

`recordings` lists recordings as manifest rows; `make_windows` turns one row into a shard: the cleaned signal, stored
once, and the positions of its windows with all that is known of them. A row holds everything that its recording needs,
so rows can be processed one by one, in any order, on any machine that has the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nbkit.neuro.signals.hbn import recordings as hbn
from nbkit.neuro.signals.hbn import synthetic as synthetic_hbn
from nbkit.neuro.signals.hbn.windows import HBNRecording, HBNWindows, purposes_of, write_windows
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.intake.tables import label_spans, participant
from nbkit.neuro.signals.recordings import eegbci, synthetic
from nbkit.neuro.signals.recordings.eegbci import eegbci_available
from nbkit.neuro.signals.recordings.listing import bids_rows, folder_rows
from nbkit.neuro.signals.windows.shard_writing import DTYPES, WHOLE, write_signal
from nbkit.neuro.signals.windows.windowing import Windowing, cut

__all__ = [
    "SOURCES",
    "eegbci_available",
    "first_readable",
    "load_recording",
    "make_windows",
    "recordings",
    "window_settings",
]

HBN_SOURCES = ("hbn", "hbn_bids", "synthetic_hbn")
SOURCES = ("folder", "bids", "eegbci", "edf", "synthetic", "synthetic_rest", *HBN_SOURCES)


def recordings(
    source: str,
    path: str | None = None,
    subjects: Sequence[int | str] | None = None,
    runs: Sequence[int | str] | None = None,
    *,
    subject_from: str | None = None,
    table: str | None = None,
    where: Path | None = None,
    stand_in: bool = False,
    releases: Sequence[str] = (),
    tasks: Sequence[str] = (),
    mini: bool = True,
) -> list[dict[str, str]]:
    """List recordings as manifest rows with the columns key, source, path, subject and run.

    Parameters
    ----------
    source : {"folder", "bids", "eegbci", "synthetic", "synthetic_rest", "hbn", "hbn_bids", "synthetic_hbn"}
        A folder of files of any formats that MNE reads (``edf`` is another name for it); a BIDS root; PhysioNet's motor
        data by mne; a synthetic recording; synthetic rest and task of four people; HBN by eegdash or from BIDS folders;
        a synthetic HBN.
    path : str, optional
        For folder, bids and hbn_bids, the folder; for hbn, the folder of eegdash's files; for synthetic_hbn, the preset
        (free, smoke).
    subjects, runs : sequence, optional
        Subjects and runs to list; by default all in the folder, or (eegbci) subject 1 and runs 3, 4, 6, 8, 11 and 12.
        All runs of HBN are listed.
    subject_from : str, optional
        Regular expression with one group that finds the subject in a file's path (folder).
    table : str, optional
        Table of the recordings with the columns file and subject, and others (folder).
    where : Path, optional
        Where a template of the table goes if the folder cannot be written.
    releases, tasks, mini
        Selection of HBN recordings, see `hbn.hbn_rows`.
    stand_in : bool
        If the eegbci runs are neither on disk nor available from the network, print the reason and list synthetic
        recordings instead. All results from them are labelled as such.

    Returns
    -------
    rows : list of dict of str

    Raises
    ------
    ValueError
        If the source, a subject or a run is unknown, or it cannot be told whose recordings they are.
    FileNotFoundError
        If the folder holds no such recording.
    """
    _check_source(source)
    if source == "eegbci":
        rows = eegbci.rows(subjects or (1,), runs or eegbci.USUAL_RUNS)
        if stand_in:
            for subject in subjects or (1,):
                available, reason = eegbci_available(int(subject), [int(r) for r in runs or eegbci.USUAL_RUNS])
                if not available:
                    print(f"No real EEG here: {reason}. A SYNTHETIC recording is used instead.")
                    return synthetic.rows(subjects or (1,), runs or (1, 2))
        return rows
    if source == "synthetic":
        return synthetic.rows(subjects or (1,), runs or (1,))
    if source == "synthetic_rest":
        return synthetic.rest_rows([int(subject) for subject in subjects or (1, 2, 3, 4)])
    if source == "synthetic_hbn":
        preset = path or "free"
        made = synthetic_hbn.synthetic_rows(_made_up(preset), tasks or None)
        wanted = {f"SYN{int(number):04d}" for number in subjects or ()}
        return [{**row, "path": preset} for row in made if not wanted or row["subject"] in wanted]
    people = [str(subject) for subject in subjects or ()]
    if source in HBN_SOURCES:
        return hbn.hbn_rows(source, path or "hbn", releases=releases, tasks=tasks, subjects=people, mini=mini)
    names = [str(run) for run in runs or ()]
    if source == "bids":
        return bids_rows(path or "", people, names)
    return folder_rows(path or "", people, names, subject_from=subject_from, table=table, where=where)


def load_recording(
    item: Mapping[str, Any],
    cleaning: Cleaning | Mapping[str, Any] | None = None,
    *,
    unit: str | None = None,
    accept_cut: bool = False,
) -> Recording:
    """Load the recording of a row, checked and cleaned; see `read_recording`.

    Parameters
    ----------
    item : mapping
        A row of `recordings`; values may be text, as in a manifest.
    cleaning : Cleaning or mapping, optional
        By default the signal is left as it was recorded. HBN's recordings are cleaned by its own rules.
    unit, accept_cut
        See `read_recording`.

    Returns
    -------
    recording : Recording
    """
    source = _source(item)
    chosen = Cleaning.none() if cleaning is None else _cleaning(cleaning)
    if source in HBN_SOURCES:
        return _load_hbn(item, chosen.sfreq).recording
    if source in ("synthetic", "synthetic_rest"):
        kind = synthetic.recording if source == "synthetic" else synthetic.rest_recording
        made = kind(item["subject"], item["run"])
        return read_recording(made.as_raw(), chosen, data=made.data)
    if source == "eegbci":
        return read_recording(eegbci.fetch(int(item["subject"]), int(item["run"])), chosen, unit=unit)
    return read_recording(item["path"], chosen, unit=unit, bids=source == "bids", accept_cut=accept_cut)


def first_readable(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> tuple[str, Recording]:
    """Return key and recording of the first row that can be read with the settings of `make_windows`.

    Rows before it that cannot be used are named with the reason.

    Raises
    ------
    RecordingError
        If no row can be used, with the reason of the first.
    """
    faults = []
    for row in rows:
        try:
            if str(row["source"]) in HBN_SOURCES:
                return str(row["key"]), load_recording(row, Cleaning.none(settings["sfreq"]))
            read = {name: settings[name] for name in ("cleaning", "unit", "accept_cut")}
            recording = load_recording(row, **read)
        except (ValueError, OSError) as error:  # it becomes a failed item in the loop
            print(f"{row['key']} cannot be used: {error}")
            faults.append(str(error))
            continue
        if recording.facts is not None:
            print(*recording.facts.lines(), sep="\n")
        return str(row["key"]), recording
    raise RecordingError(
        f"None of {len(rows)} recordings can be used. The first one: {faults[0] if faults else 'none'}"
    )


def window_settings(
    source: str,
    sfreq: float,
    window_s: float | None = None,
    stride_s: float | None = None,
    dtype: str | None = None,
    *,
    cleaning: Cleaning | None = None,
    events: Mapping[str, str] | None = None,
    tmin: float = 0.0,
    tmax: float = 2.0,
    baseline: Sequence[float] | None = None,
    unit: str | None = None,
    accept_cut: bool = False,
    labels: str | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `make_windows` for a source, as plain values in Hz and s.

    The default is windows of 5 s, and for HBN 2 s every second. Signals are stored as float16 by default: 200 subjects
    of HBN then take about 12 GB instead of 25, and a free Drive holds 15.

    Parameters
    ----------
    source : str
    sfreq : float
        In Hz, after resampling.
    window_s, stride_s : float, optional
    dtype : {"float32", "float16"}, optional
    cleaning : Cleaning, optional
        Without it `Cleaning` at its defaults; the rate is ``sfreq``. HBN has its own.
    events : mapping of str to str, optional
        Name of an event to the class of its windows; without it windows have a fixed stride.
    tmin, tmax, baseline
        See `Windowing`.
    unit, accept_cut
        See `read_recording`.
    labels : str, optional
        A table of labels, see `label_spans`.
    """
    _check_source(source)
    is_hbn = source in HBN_SOURCES
    usual = HBNWindows.pretrain() if is_hbn else HBNWindows("pretrain", 5.0, 5.0)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"Not possible: {dtype=}: windows are kept as {' or '.join(DTYPES)}.")
    window_s = usual.window_s if window_s is None else window_s
    stride_s = usual.stride_s if stride_s is None else stride_s
    if is_hbn:
        return {"sfreq": sfreq, "window_s": window_s, "stride_s": stride_s, "dtype": dtype or "float16"}
    span = None if baseline is None else (float(baseline[0]), float(baseline[1]))
    windowing = Windowing(window_s, stride_s, tuple((events or {}).items()), tmin, tmax, span)
    chosen = replace(cleaning or Cleaning(), sfreq=sfreq)
    return {
        "cleaning": asdict(chosen), "windowing": json.loads(json.dumps(asdict(windowing))), "dtype": dtype or "float16",
        "unit": unit, "accept_cut": accept_cut, "labels": labels,
    }  # fmt: skip


def make_windows(
    item: Mapping[str, Any],
    folder: str | Path,
    *,
    cleaning: Cleaning | Mapping[str, Any] | None = None,
    windowing: Windowing | Mapping[str, Any] | None = None,
    unit: str | None = None,
    accept_cut: bool = False,
    labels: str | None = None,
    dtype: str = "float16",
    **of_hbn: float,
) -> dict[str, Path]:
    """Clean one recording, cut it into windows, and write the shard.

    The recording is filtered before it is cut, each part between two gaps by itself.

    Parameters
    ----------
    item : mapping
        A row of `recordings`.
    folder : path
        Temporary folder for the shard, until the item copies it.
    cleaning : Cleaning or mapping, optional
    windowing : Windowing or mapping, optional
    unit, accept_cut
        See `read_recording`.
    labels : str, optional
        Path of a table of labels.
    dtype : {"float32", "float16"}
        Type of the stored signal; windows are float32 when they are read.
    **of_hbn : float
        For HBN, ``sfreq`` in Hz, and ``window_s`` and ``stride_s`` of the pretraining windows; the challenges fix
        their own.

    Returns
    -------
    paths : dict of Path
        The shard: ``signal``, and the index ``windows``, with the columns ``start_s``, ``label`` and all that the
        tables say of each window. For HBN the indices are pretrain, and for the active task challenge1 and challenge2.
    """
    source = _source(item)
    if source in HBN_SOURCES:
        pretrain = HBNWindows("pretrain", of_hbn.get("window_s", 2.0), of_hbn.get("stride_s", 1.0))
        return _make_hbn_windows(_load_hbn(item, of_hbn.get("sfreq")), folder, pretrain, dtype)
    recording = load_recording(item, _cleaning(cleaning), unit=unit, accept_cut=accept_cut)
    spans = label_spans(Path(labels)) if labels is not None else {}
    own = [name for name in (item.get("key"), Path(str(item.get("path", ""))).name) if name in spans]
    row = dict(item)
    if source == "bids":
        row = {**participant(_bids_root(Path(str(item["path"]))), str(item["subject"])), **row}
    made = cut(recording, _windowing(windowing), row, spans[own[0]] if own else ())
    facts = recording.facts
    assert facts is not None  # of every recording that was read
    return write_signal(
        Path(folder, str(item["key"])), recording.signal, sfreq=recording.sfreq, ch_names=recording.ch_names,
        subject=str(item["subject"]), cuts={WHOLE: (made.starts, made.length, made.columns)}, dtype=dtype,
        baseline=made.baselines, recording=str(item["key"]), run=str(item["run"]), source=source, data=recording.data,
        stretches=[[s.start, s.stop, s.start_s] for s in recording.stretches], dropped=made.dropped,
        intake=facts.as_json(),
    )  # fmt: skip


def _check_source(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"Unknown {source=}; it may be {', '.join(SOURCES)}.")


def _cleaning(given: Cleaning | Mapping[str, Any] | None) -> Cleaning:
    return given if isinstance(given, Cleaning) else Cleaning(**(given or {}))


def _windowing(given: Windowing | Mapping[str, Any] | None) -> Windowing:
    if isinstance(given, Windowing):
        return given
    said = dict(given or {})
    said["events"] = tuple((str(name), str(label)) for name, label in said.get("events", ()))
    said["baseline"] = None if said.get("baseline") is None else tuple(said["baseline"])
    return Windowing(**said)


def _bids_root(path: Path) -> Path:
    """Return the folder above ``sub-*``."""
    return next((parent.parent for parent in path.parents if parent.name.startswith("sub-")), path.parent)


def _source(item: Mapping[str, Any]) -> str:
    """Return the source that a row names.

    Raises
    ------
    ValueError
        If the row names none, or an unknown one.
    """
    source = str(item.get("source", ""))
    _check_source(source)
    return source


def _load_hbn(item: Mapping[str, Any], sfreq: float | None) -> HBNRecording:
    if item["source"] != "synthetic_hbn":
        return hbn.load_hbn(item, hbn.SFREQ if sfreq is None else sfreq)
    settings = _made_up(str(item["path"]))
    return synthetic_hbn.synthetic_recording(item, settings if sfreq is None else replace(settings, sfreq=sfreq))


def _make_hbn_windows(recording: HBNRecording, folder: str | Path, pretrain: HBNWindows, dtype: str) -> dict[str, Path]:
    others = [HBNWindows.of(purpose) for purpose in purposes_of(recording.task) if purpose != "pretrain"]
    return write_windows(recording, folder, [pretrain, *others], dtype)


def _made_up(preset: str) -> synthetic_hbn.SyntheticHBNSettings:
    presets = {"free": synthetic_hbn.SyntheticHBNSettings.free, "smoke": synthetic_hbn.SyntheticHBNSettings.smoke}
    if preset not in presets:
        raise ValueError(f"The synthetic HBN has no preset {preset!r}; PATH must be {' or '.join(presets)}.")
    return presets[preset]()
