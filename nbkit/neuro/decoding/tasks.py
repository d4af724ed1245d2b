"""Decoding tasks: windows with a target and a group each.

A task states whether its data are real or a stand-in, and which groups split them. Targets come from the events of a
recording, never from the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.recorded import RecordedWindows
from nbkit.neuro.decoding.window_task import window_task
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.recordings import eegbci
from nbkit.neuro.signals.recordings.cueing import CueingWindows, write_cueing
from nbkit.neuro.signals.windows.shards import WindowShards

STAND_IN = "synthetic stand-in: noise, and in one class a planted 10 Hz rhythm; no brain was recorded"
TASKS = ("windows", "rest_or_movement", "cue_validity", "response_time", "stand_in")

_MONTAGE_19 = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip


def load_task(
    name: str,
    folder: str | Path | None = None,
    subjects: Sequence[int | str] = (),
    scratch: str | Path = ".",
    *,
    windows: Sequence[str | Path] = (),
    leave_one_out: bool = False,
    **of_windows: Any,
) -> DecodingTask:
    """Return a task by its name.

    Parameters
    ----------
    name : {"windows", "rest_or_movement", "cue_validity", "response_time", "stand_in"}
        ``windows`` are those that 10_eeg_windows stored, with any of their columns as the target.
    folder : path, optional
        Root of the cueing data set; the recordings of eegbci are found by MNE.
    subjects : sequence, optional
        Subjects to load; by default the first of eegbci, and all of the cueing data set.
    scratch : path
        Where to write shards.
    windows : sequence of path
        Outputs of 10_eeg_windows, for the task windows.
    leave_one_out : bool
        One fold per group, for the task windows.
    **of_windows
        ``target``, ``group``, ``classes`` and ``mains``, see `window_task`.

    Raises
    ------
    ValueError
        If the name is unknown, or a required folder is not given.
    """
    if name == "windows":
        return window_task(windows, subjects=subjects, leave_one_out=leave_one_out, **of_windows)
    if name == "rest_or_movement":
        return rest_or_movement([int(s) for s in subjects] or [1])
    if name in ("cue_validity", "response_time"):
        if folder is None:
            raise ValueError(
                f"The task {name} needs the root of the cueing data set (BIDS, sub-*/ses-*/eeg); pass it as folder."
            )
        return cueing(folder, scratch, name, [str(s) for s in subjects])
    if name == "stand_in":
        return stand_in()
    raise ValueError(f"There is no task {name!r}; choose one of {', '.join(TASKS)}.")


def recording_to_embed(path: str | Path | None, task: DecodingTask) -> Recording:
    """Return a recording to embed second by second: the file, or else the windows of a task's first group, joined.

    Parameters
    ----------
    path : path, optional
        Any file that `read_recording` reads.
    task : DecodingTask
    """
    if path is not None:
        return read_recording(path, Cleaning.none())
    return task.subset(task.groups == task.groups[0]).as_recording()


def rest_or_movement(
    subjects: Sequence[int] = (1,), runs: Sequence[int] = (3, 4, 6, 8, 11, 12), sfreq: float = 200.0
) -> DecodingTask:
    """Return the task of telling rest (T0) from moved or imagined fists and feet (T1, T2), with 4 s after each cue.

    Parameters
    ----------
    subjects, runs : sequence of int
        Subjects and runs of eegbci; one subject is split by run, several by subject.
    sfreq : float
        Sampling frequency after resampling, in Hz.
    """
    length = int(round(4.0 * sfreq))
    windows, target, groups, starts, read = [], [], [], [], []
    for subject in subjects:
        for run in runs:
            recording = read_recording(eegbci.fetch(subject, run), Cleaning.none(sfreq))
            read.append(recording)
            for onset, label in zip(recording.onsets_s, recording.labels, strict=True):
                start = int(round(onset * sfreq))
                if label in ("T0", "T1", "T2") and start + length <= recording.signal.shape[1]:
                    windows.append(recording.signal[:, start : start + length])
                    starts.append((len(read) - 1, start))
                    target.append(int(label != "T0"))
                    groups.append(f"sub-{subject:03d}" if len(subjects) > 1 else f"run-{run:02d}")
    of, first = np.array(starts).T
    recorded = RecordedWindows([lambda one=one: one for one in read], of, first, length)
    return DecodingTask(
        "rest_or_movement", "classification", np.stack(windows).astype(np.float32), np.array(target), np.array(groups),
        sfreq, recording.ch_names, ("rest", "movement"), event_related=True,
        strategy="stratified_group_kfold" if len(subjects) > 1 else "leave_one_group_out", recorded=recorded,
    )  # fmt: skip


def cueing(
    root: str | Path, scratch: str | Path, what: str, subjects: Sequence[str] = (), sfreq: float = 200.0
) -> DecodingTask:
    """Return a task on Posner cueing with four dry electrodes: cue validity or response time, split by subject.

    Parameters
    ----------
    root : path
        Root of the BIDS data set.
    scratch : path
        Where to write shards.
    what : {"cue_validity", "response_time"}
        Windows for the cue validity are from 1 s before to 1 s after the target; for the response time, the 2 s before
        the target.
    subjects : sequence of str, optional
    sfreq : float
        Sampling frequency after resampling, in Hz.
    """
    validity = what == "cue_validity"
    cut = CueingWindows(-1.0, 1.0, sfreq) if validity else CueingWindows(-2.0, 0.0, sfreq)
    shards = WindowShards(write_cueing(root, Path(scratch, what), cut, subjects), columns=())
    target = shards.column("valid" if validity else "target")
    keep = np.flatnonzero(np.isfinite(target))
    return DecodingTask(
        what, "classification" if validity else "regression", shards.stack()[keep].astype(np.float32),
        target[keep].astype(int) if validity else target[keep].astype(float), shards.subjects[keep].astype(str),
        sfreq, tuple(shards.ch_names), ("cue wrong", "cue right") if validity else (), "" if validity else "s",
        "stratified_group_kfold" if validity else "group_kfold", event_related=True,
    )  # fmt: skip


def stand_in(
    windows: int = 40, subjects: int = 4, seconds: float = 2.0, sfreq: float = 200.0, seed: int = 0
) -> DecodingTask:
    """Return a synthetic task with a planted effect: in class 1, channels at the back of the head have a 10 Hz rhythm.

    Parameters
    ----------
    windows, subjects : int
        Total numbers; classes alternate.
    seconds, sfreq : float
        Length of a window in s, and sampling frequency in Hz.
    seed : int
    """
    rng, length = np.random.default_rng(seed), int(round(seconds * sfreq))
    target, groups = np.arange(windows) % 2, np.arange(windows) * subjects // windows
    signal = rng.normal(size=(windows, len(_MONTAGE_19), length)) * 10.0
    back = np.array([name[0] in "PO" for name in _MONTAGE_19])
    phase = rng.uniform(0, 2 * np.pi, (windows, 1, 1))
    tone = 15.0 * np.sin(2 * np.pi * 10.0 * np.arange(length) / sfreq + phase)
    signal += tone * back[:, None] * target[:, None, None]
    names = np.array([f"S{group + 1:02d}" for group in groups])
    return DecodingTask(
        "stand_in", "classification", signal.astype(np.float32), target, names, sfreq, _MONTAGE_19,
        ("noise", "rhythm"), data=STAND_IN,
    )  # fmt: skip
