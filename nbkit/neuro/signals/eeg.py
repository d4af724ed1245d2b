"""Turn EEG recordings into windows.

`recordings` lists recordings as manifest rows; `make_windows` turns one row into arrays. A row holds everything that
its recording needs, so rows can be processed one by one, in any order, on any machine that has the data. HBN's
recordings become shards for pretraining and both challenges; each other recording becomes one archive with its bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, cumulative_frequency_levels, effective_bands
from nbkit.neuro.signals.hbn import recordings as hbn
from nbkit.neuro.signals.hbn import synthetic as synthetic_hbn
from nbkit.neuro.signals.hbn.release import ACTIVE_TASK
from nbkit.neuro.signals.hbn.windows import PURPOSES, HBNRecording, HBNWindows, write_windows
from nbkit.neuro.signals.recordings import eegbci, folders, synthetic
from nbkit.neuro.signals.recordings.eegbci import eegbci_available
from nbkit.neuro.signals.recordings.recording import Recording
from nbkit.neuro.signals.windows.cutting import cut_windows, window_labels, window_starts
from nbkit.neuro.signals.windows.shard_writing import DTYPES

__all__ = ["SOURCES", "eegbci_available", "load_recording", "make_windows", "recordings", "window_settings"]

HBN_SOURCES = ("hbn", "hbn_bids", "synthetic_hbn")
SOURCES = ("eegbci", "bids", "edf", "synthetic", *HBN_SOURCES)


def recordings(
    source: str,
    path: str | None = None,
    subjects: Sequence[int | str] | None = None,
    runs: Sequence[int | str] | None = None,
    *,
    stand_in: bool = False,
    releases: Sequence[str] = (),
    tasks: Sequence[str] = (),
    mini: bool = True,
) -> list[dict[str, str]]:
    """List recordings as manifest rows with the columns key, source, path, subject and run.

    Parameters
    ----------
    source : {"eegbci", "bids", "edf", "synthetic", "hbn", "hbn_bids", "synthetic_hbn"}
        PhysioNet's motor data by mne; a BIDS root; a folder of EDF files; a synthetic recording; HBN by eegdash or from
        BIDS folders; a synthetic HBN.
    path : str, optional
        For bids, edf and hbn_bids, the folder; for hbn, the folder of eegdash's files; for synthetic_hbn, the preset
        (free, smoke).
    subjects, runs : sequence, optional
        Subjects and runs to list; by default all in the folder, or subject 1 and (eegbci) runs 3 to 14. All runs of HBN
        are listed.
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
        If the source, a subject or a run is unknown.
    FileNotFoundError
        If the folder holds no such recording.
    """
    _check_source(source)
    if source == "eegbci":
        rows = eegbci.rows(subjects or (1,), runs or eegbci.MOTOR_RUNS)
        if stand_in:
            for subject in subjects or (1,):
                available, reason = eegbci_available(int(subject), [int(r) for r in runs or eegbci.MOTOR_RUNS])
                if not available:
                    print(f"No real EEG here: {reason}. A SYNTHETIC recording is used instead.")
                    return synthetic.rows(subjects or (1,), runs or (1,))
        return rows
    if source == "synthetic":
        return synthetic.rows(subjects or (1,), runs or (1,))
    if source == "synthetic_hbn":
        preset = path or "free"
        made = synthetic_hbn.synthetic_rows(_made_up(preset), tasks or None)
        wanted = {f"SYN{int(number):04d}" for number in subjects or ()}
        return [{**row, "path": preset} for row in made if not wanted or row["subject"] in wanted]
    if source in HBN_SOURCES:
        return hbn.hbn_rows(
            source, path or "hbn", releases=releases, tasks=tasks, subjects=[str(s) for s in subjects or ()], mini=mini
        )
    listed = folders.bids_rows if source == "bids" else folders.edf_rows
    return listed(path or "", subjects or None, runs or None)


def load_recording(item: Mapping[str, Any], sfreq: float | None = None) -> Recording:
    """Load the recording of a row.

    Parameters
    ----------
    item : mapping
        A row of `recordings`; values may be text, as in a manifest.
    sfreq : float, optional
        Sampling rate to resample to, in Hz; by default that of the recording.

    Returns
    -------
    recording : Recording
    """
    source = _source(item)
    if source == "eegbci":
        return eegbci.load(int(item["subject"]), int(item["run"]), sfreq)
    if source == "synthetic":
        made = synthetic.recording(item["subject"], item["run"])
        return made if sfreq is None else made.resampled(sfreq)
    if source in HBN_SOURCES:
        return _load_hbn(item, sfreq).recording
    return (folders.load_bids if source == "bids" else folders.load_edf)(item["path"], sfreq)


def window_settings(
    source: str, sfreq: float, window_s: float | None = None, stride_s: float | None = None, dtype: str | None = None
) -> dict[str, float | str]:
    """Return the keyword arguments of `make_windows` for a source, in Hz and s.

    The default is windows of 5 s, and for HBN 2 s every second. HBN's signals are stored as float16 by default: 200
    subjects then take about 12 GB instead of 25, and a free Drive holds 15. Windows of other sources are always
    float32.
    """
    _check_source(source)
    is_hbn = source in HBN_SOURCES
    usual = HBNWindows.pretrain() if is_hbn else HBNWindows("pretrain", 5.0, 5.0)
    allowed = DTYPES if is_hbn else DTYPES[:1]
    if dtype is not None and dtype not in allowed:
        raise ValueError(f"Not possible: {dtype=} for {source}: its windows are kept as {' or '.join(allowed)}.")
    window_s = usual.window_s if window_s is None else window_s
    stride_s = usual.stride_s if stride_s is None else stride_s
    kept = {"dtype": dtype or "float16"} if is_hbn else {}
    return {"sfreq": sfreq, "window_s": window_s, "stride_s": stride_s, **kept}


def make_windows(
    item: Mapping[str, Any],
    folder: str | Path | None = None,
    *,
    sfreq: float = 100.0,
    window_s: float = 5.0,
    stride_s: float = 5.0,
    bands: Sequence[Band] = DEFAULT_BANDS,
    dtype: str = "float32",
) -> dict[str, np.ndarray] | dict[str, Path]:
    """Cut one recording into windows and their cumulative bands; a recording of HBN becomes a shard without bands.

    The whole recording is filtered before it is cut, so filter edges affect no window.

    Parameters
    ----------
    item : mapping
        A row of `recordings`.
    folder : path, optional
        Temporary folder for the shard of an HBN recording, until the item copies it.
    sfreq : float
        Sampling rate to resample to, in Hz.
    window_s, stride_s : float
        Length of a window and distance between starts, in s. For HBN they apply to the pretraining windows only,
        because the challenges fix their own.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz.
    dtype : {"float32", "float16"}
        Type of HBN's stored signal; other windows are float32.

    Returns
    -------
    arrays : dict
        signal : float32 array of shape (windows, channels, time), in uV
        cumulative_bands : float32 array of shape (windows, bands, channels, time), in uV
        bands : float32 array of shape (bands, 2), the effective edges, in Hz
        sfreq : float32, in Hz
        ch_names : str array of shape (channels,)
        start_s : float64 array of shape (windows,), in s from the start of the recording
        label : str array of shape (windows,), the event with the longest overlap, "" if there is none
        subject, run, source, data : str; ``data`` is "real" or a description of synthetic data

        For HBN, the paths of the shard: signal, pretrain, and for recordings of the active task challenge1, challenge2.
    """
    source = _source(item)
    if source in HBN_SOURCES:
        if folder is None:
            raise ValueError(f"{item['key']}: HBN's windows are written to files; pass folder= to make_windows.")
        return _make_hbn_windows(_load_hbn(item, sfreq), folder, HBNWindows("pretrain", window_s, stride_s), dtype)
    recording = load_recording(item, sfreq)
    starts, length = window_starts(recording.signal.shape[1], recording.sfreq, window_s, stride_s)
    levels = cumulative_frequency_levels(recording.signal, recording.sfreq, bands)
    start_s = starts / recording.sfreq
    return {
        "signal": cut_windows(recording.signal, starts, length).astype(np.float32),
        "cumulative_bands": cut_windows(levels, starts, length).astype(np.float32),
        "bands": np.array(effective_bands(bands, recording.sfreq), np.float32),
        "sfreq": np.float32(recording.sfreq),
        "ch_names": np.array(recording.ch_names),
        "start_s": start_s,
        "label": window_labels(
            start_s, length / recording.sfreq, recording.onsets_s, recording.durations_s, recording.labels
        ),
        "subject": np.array(str(item["subject"])),
        "run": np.array(str(item["run"])),
        "source": np.array(source),
        "data": np.array(recording.data),
    }


def _check_source(source: str) -> None:
    if source not in SOURCES:
        raise ValueError(f"Unknown {source=}; it may be {', '.join(SOURCES)}.")


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
    others = [HBNWindows.of(purpose) for purpose in PURPOSES[1:]] if recording.task == ACTIVE_TASK else []
    return write_windows(recording, folder, [pretrain, *others], dtype)


def _made_up(preset: str) -> synthetic_hbn.SyntheticHBNSettings:
    presets = {"free": synthetic_hbn.SyntheticHBNSettings.free, "smoke": synthetic_hbn.SyntheticHBNSettings.smoke}
    if preset not in presets:
        raise ValueError(f"The synthetic HBN has no preset {preset!r}; PATH must be {' or '.join(presets)}.")
    return presets[preset]()
