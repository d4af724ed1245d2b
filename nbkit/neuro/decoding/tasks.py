"""What is decoded: windows with a target and a group each.

A task says what its data are, real or stand-in, and by what they are split; targets follow from what happened in the
recording, never from the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.recordings import eegbci
from nbkit.neuro.signals.recordings.cueing import CueingWindows, write_cueing
from nbkit.neuro.signals.recordings.recording import Recording
from nbkit.neuro.signals.windows.shards import WindowShards

STAND_IN = "synthetic stand-in: noise, and in one class a planted 10 Hz rhythm; no brain was recorded"
TASKS = ("rest_or_movement", "cue_validity", "response_time", "stand_in")

_MONTAGE_19 = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip


@dataclass(frozen=True)
class DecodingTask:
    """Windows, what is to be told of each, and whose it is.

    Attributes
    ----------
    name : str
    kind : {"classification", "regression"}
    windows : ndarray of shape (windows, channels, time)
        In uV, float32.
    target : ndarray of shape (windows,)
        Class numbers from 0, or the value in ``unit``.
    groups : ndarray of shape (windows,)
        Text: no group is on both sides of a fold.
    sfreq : float
        In Hz.
    ch_names : tuple of str
    classes : tuple of str
        Names by number; empty for a regression.
    unit : str
        Of a regression's target.
    strategy : str
        Of the outer folds, see `folds.outer_folds`.
    data : str
        "real", or what the windows stand in for.
    """

    name: str
    kind: str
    windows: np.ndarray
    target: np.ndarray
    groups: np.ndarray
    sfreq: float
    ch_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    unit: str = ""
    strategy: str = "stratified_group_kfold"
    data: str = "real"

    @property
    def seconds(self) -> float:
        """Length of a window, in s."""
        return self.windows.shape[-1] / self.sfreq

    def permuted(self, seed: int) -> DecodingTask:
        """Return the task with targets shuffled within each group: what no model may decode."""
        rng, target = np.random.default_rng(seed), self.target.copy()
        for group in np.unique(self.groups):
            inside = np.flatnonzero(self.groups == group)
            target[inside] = target[rng.permutation(inside)]
        return replace(self, target=target, data=f"{self.data}; targets shuffled")

    def as_recording(self) -> Recording:
        """Return the windows one after the other, as if they were one recording: for a try of what takes one."""
        signal = np.concatenate(list(self.windows), axis=1).astype(np.float64)
        return Recording(signal, self.sfreq, self.ch_names, data=f"{self.data}; windows joined")

    def describe(self) -> str:
        """Return one line for a person."""
        what = "classes " + ", ".join(
            f"{name}: {int((self.target == i).sum())}" for i, name in enumerate(self.classes)
        ) if self.classes else f"target {self.target.mean():.3g} +- {self.target.std():.3g} {self.unit}"  # fmt: skip
        return (
            f"{self.name}: (windows, channels, time) = {self.windows.shape} at {self.sfreq:g} Hz; {what}; "
            f"{len(np.unique(self.groups))} groups; {self.data}"
        )


def load_task(
    name: str, folder: str | Path | None = None, subjects: Sequence[int | str] = (), scratch: str | Path = "."
) -> DecodingTask:
    """Return a task by its name.

    Parameters
    ----------
    name : {"rest_or_movement", "cue_validity", "response_time", "stand_in"}
    folder : path, optional
        The cueing data set's root; eegbci's recordings are found by mne.
    subjects : sequence, optional
        Which; eegbci's first, all of the cueing set.
    scratch : path
        Where shards may be written.

    Raises
    ------
    ValueError
        For an unknown name, or a folder that is needed and not given.
    """
    if name == "rest_or_movement":
        return rest_or_movement([int(s) for s in subjects] or [1])
    if name in ("cue_validity", "response_time"):
        if folder is None:
            raise ValueError(f"{name} needs the root of the cueing data set (BIDS, sub-*/ses-*/eeg); give its folder.")
        return cueing(folder, scratch, name, [str(s) for s in subjects])
    if name == "stand_in":
        return stand_in()
    raise ValueError(f"task {name!r} is none of {', '.join(TASKS)}.")


def rest_or_movement(
    subjects: Sequence[int] = (1,), runs: Sequence[int] = (3, 4, 6, 8, 11, 12), sfreq: float = 200.0
) -> DecodingTask:
    """Return rest (T0) against moved or imagined fists and feet (T1, T2): 4 s from each cue on.

    Parameters
    ----------
    subjects, runs : sequence of int
        Of the eegbci set; one subject is split by run, several by subject.
    sfreq : float
        To resample to, in Hz.
    """
    length = int(round(4.0 * sfreq))
    windows, target, groups = [], [], []
    for subject in subjects:
        for run in runs:
            recording = eegbci.load(subject, run, sfreq)
            for onset, label in zip(recording.onsets_s, recording.labels, strict=True):
                start = int(round(onset * sfreq))
                if label in ("T0", "T1", "T2") and start + length <= recording.signal.shape[1]:
                    windows.append(recording.signal[:, start : start + length])
                    target.append(int(label != "T0"))
                    groups.append(f"sub-{subject:03d}" if len(subjects) > 1 else f"run-{run:02d}")
    return DecodingTask(
        "rest_or_movement", "classification", np.stack(windows).astype(np.float32), np.array(target), np.array(groups),
        sfreq, recording.ch_names, ("rest", "movement"),
        strategy="stratified_group_kfold" if len(subjects) > 1 else "leave_one_group_out",
    )  # fmt: skip


def cueing(
    root: str | Path, scratch: str | Path, what: str, subjects: Sequence[str] = (), sfreq: float = 200.0
) -> DecodingTask:
    """Give Posner cueing on four dry electrodes: whether the cue was right, or the response time; split by subject.

    Parameters
    ----------
    root : path
        The BIDS data set.
    scratch : path
        Where shards are written.
    what : {"cue_validity", "response_time"}
        Validity is read from 1 s before to 1 s after the target; the response time is forecast from the 2 s before it.
    subjects : sequence of str, optional
    sfreq : float
        To resample to, in Hz.
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
        "stratified_group_kfold" if validity else "group_kfold",
    )  # fmt: skip


def stand_in(
    windows: int = 40, subjects: int = 4, seconds: float = 2.0, sfreq: float = 200.0, seed: int = 0
) -> DecodingTask:
    """Return a task with a planted answer: in class 1 the back of the head has a rhythm of 10 Hz.

    Parameters
    ----------
    windows, subjects : int
        In all; classes alternate.
    seconds, sfreq : float
        Length in s, and Hz.
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
