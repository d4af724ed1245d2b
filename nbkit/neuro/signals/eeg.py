"""EEG recordings to windows.

`recordings` lists what there is as manifest rows; `make_windows` turns one row into arrays. A row holds everything its
recording needs, so rows can be worked off one by one, in any order and on any machine that has the data. HBN's
recordings become shards, which serve pretraining and both challenges; all others one archive with their bands.
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
        PhysioNet's motor set through mne; a BIDS root; a folder of EDF files; a made-up recording; HBN through eegdash
        or from BIDS folders; a made-up HBN.
    path : str, optional
        The folder, for bids, edf and hbn_bids; where eegdash keeps its files, for hbn; the preset (free, smoke), for
        synthetic_hbn.
    subjects, runs : sequence, optional
        Which ones; all that the folder holds, or subject 1 and (eegbci) runs 3 to 14. HBN's runs are all taken.
    releases, tasks, mini
        Of HBN, as in `hbn.hbn_rows`.
    stand_in : bool
        Where the eegbci runs are neither on disk nor to be had from the network, say so in one line and list
        synthetic recordings in their place; everything made of them says so, too.

    Raises
    ------
    ValueError
        For an unknown source, subject or run.
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
                    print(f"No real EEG here: {reason}. A SYNTHETIC recording stands in.")
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
    """Load the recording a row names, resampled to ``sfreq`` (Hz) where that is given.

    Parameters
    ----------
    item : mapping
        A row of `recordings`; values may be text, as a manifest keeps them.
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
    """Return what `make_windows` takes, in Hz and s: 5 s windows where not said otherwise, HBN's 2 s every second.

    HBN's signals are kept as float16 where no `dtype` is given: 200 subjects are then some 12 GB and not 25, of the 15
    that a free Drive holds. Other sources' windows are float32 and nothing else.
    """
    _check_source(source)
    is_hbn = source in HBN_SOURCES
    usual = HBNWindows.pretrain() if is_hbn else HBNWindows("pretrain", 5.0, 5.0)
    allowed = DTYPES if is_hbn else DTYPES[:1]
    if dtype is not None and dtype not in allowed:
        raise ValueError(f"{dtype=} for {source}: its windows are kept as {' or '.join(allowed)}.")
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
    """Turn one recording into windows and their cumulative bands; HBN's into a shard without bands.

    Bands are filtered on the whole recording and cut afterwards, so no window sees the edge of a filter.

    Parameters
    ----------
    item : mapping
        A row of `recordings`.
    folder : path, optional
        Where an HBN recording's shard is written, until the item has copied it.
    sfreq : float
        Samples a second to resample to, in Hz.
    window_s, stride_s : float
        Length of a window and step from one to the next, in s; of HBN's pretraining windows, as the challenges' own are
        fixed.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz.
    dtype : {"float32", "float16"}
        In which HBN's signal is stored; other windows are float32.

    Returns
    -------
    arrays : dict
        signal : float32 array of shape (windows, channels, time), in uV
        cumulative_bands : float32 array of shape (windows, bands, channels, time), in uV
        bands : float32 array of shape (bands, 2), the edges had, in Hz
        sfreq : float32, in Hz
        ch_names : str array of shape (channels,)
        start_s : float64 array of shape (windows,), in s from the recording's start
        label : str array of shape (windows,), the event that fills most of the window, "" where there is none
        subject, run, source, data : str; ``data`` is "real" or says what stands in

        For HBN the paths of the shard: signal, pretrain, and where the recording serves them challenge1 and challenge2.
    """
    source = _source(item)
    if source in HBN_SOURCES:
        if folder is None:
            raise ValueError(f"{item['key']}: HBN's windows are written to files; give make_windows a folder for them.")
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
        raise ValueError(f"{source=} is unknown; it may be {', '.join(SOURCES)}.")


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
        raise ValueError(f"The made-up HBN has no preset {preset!r}; PATH may be {' or '.join(presets)} for it.")
    return presets[preset]()
