"""Windows of an HBN recording for pretraining, challenge 1 and challenge 2.

The challenge's definitions: challenge 1 uses 0.5 to 2.5 s after each stimulus with a response, and the target is the
response time in s. Challenge 2 uses windows of 4 s every 2 s, and the target is the subject's externalizing factor.
Signals are in uV, and no window extends beyond the end of the recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.hbn.release import ACTIVE_TASK
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.windows.cutting import cut_windows, window_starts
from nbkit.neuro.signals.windows.shard_writing import write_signal

PURPOSES = ("pretrain", "challenge1", "challenge2")
TRIAL, END = "contrastTrial_start", "end_experiment"
STIMULI = ("left_target", "right_target")
RESPONSES = ("left_buttonPress", "right_buttonPress")
PARTICIPANT = ("age", "sex", "p_factor", "attention", "internalizing", "externalizing")


@dataclass(frozen=True)
class HBNRecording:
    """One recording with information about its subject.

    Parameters
    ----------
    recording : Recording
        Signal in uV and events.
    subject, task, run : str
        Subject without ``sub-``; run is "" if the task has only one.
    release : str
        R1 to R11 without R5, or "" for synthetic data.
    participant : mapping of str to float
        Age in years, sex (1 female, 0 male) and the factors; NaN where missing.
    feedback : tuple of str
        Feedback column of the events, one per event.
    """

    recording: Recording
    subject: str
    task: str
    run: str = ""
    release: str = ""
    participant: Mapping[str, float] = field(default_factory=dict)
    feedback: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name as in HBN's files: sub-X_task-Y_run-1."""
        return f"sub-{self.subject}_task-{self.task}" + (f"_run-{self.run}" if self.run else "")


@dataclass(frozen=True)
class HBNWindows:
    """Length and position of windows.

    Parameters
    ----------
    purpose : {"pretrain", "challenge1", "challenge2"}
    window_s, stride_s : float
        Length and distance between starts, in s; challenge 1 has one window per trial and no stride.
    shift_s : float
        Time from the stimulus to the start of the window, in s (challenge 1).
    """

    purpose: str
    window_s: float
    stride_s: float
    shift_s: float = 0.0

    @classmethod
    def pretrain(cls) -> HBNWindows:
        return cls("pretrain", 2.0, 1.0)

    @classmethod
    def challenge1(cls) -> HBNWindows:
        return cls("challenge1", 2.0, 2.0, 0.5)

    @classmethod
    def challenge2(cls) -> HBNWindows:
        return cls("challenge2", 4.0, 2.0)

    @classmethod
    def of(cls, purpose: str) -> HBNWindows:
        """Return the windows for the name of a purpose."""
        if purpose not in PURPOSES:
            raise ValueError(f"Unknown {purpose=}; it may be {', '.join(PURPOSES)}.")
        return getattr(cls, purpose)()


def contrast_trials(
    onsets_s: Sequence[float], values: Sequence[str], feedback: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return the trials of a contrast change detection run: each first stimulus and the first response after it.

    A trial ends at the start of the next, or at the end of the experiment; a last trial without an end is left out.

    Parameters
    ----------
    onsets_s : sequence of float
        Onsets of the events, in s.
    values, feedback : sequence of str
        Names and feedback of the events, as in events.tsv.

    Returns
    -------
    trials : dict
        Arrays of shape (trials,): ``start_s``, ``stimulus_s``, ``response_s``, ``response_time_s`` (NaN without a
        response) and ``correct`` (1, 0, or NaN without feedback).
    """
    order = np.argsort(np.asarray(onsets_s, float), kind="stable")
    onsets = np.asarray(onsets_s, float)[order]
    values = [str(values[i]) for i in order]
    feedback = [str(feedback[i]) for i in order] if len(feedback) else [""] * len(values)
    begins = [i for i, value in enumerate(values) if value == TRIAL]
    ends = [onsets[i] for i, value in enumerate(values) if value == END]
    rows = []
    for number, begin in enumerate(begins):
        if number + 1 < len(begins):
            stop = onsets[begins[number + 1]]
        elif ends and ends[-1] > onsets[begin]:
            stop = ends[-1]
        else:
            continue
        inside = [i for i in range(len(values)) if onsets[begin] <= onsets[i] < stop]
        stimulus = next((onsets[i] for i in inside if values[i] in STIMULI), np.nan)
        since = onsets[begin] if np.isnan(stimulus) else stimulus
        response = next((i for i in inside if values[i] in RESPONSES and onsets[i] >= since), None)
        answered = np.nan if response is None else onsets[response]
        correct = {"smiley_face": 1.0, "sad_face": 0.0}.get("" if response is None else feedback[response], np.nan)
        rows.append((onsets[begin], stimulus, answered, answered - stimulus, correct))
    table = np.array(rows, float).reshape(-1, 5).T
    return dict(zip(("start_s", "stimulus_s", "response_s", "response_time_s", "correct"), table, strict=True))


def cut(recording: HBNRecording, windows: HBNWindows) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cut one recording into windows.

    Returns
    -------
    signal : array of shape (windows, channels, time)
        In uV.
    columns : dict
        See `places`.
    """
    starts, length, columns = places(recording, windows)
    return cut_windows(recording.recording.signal, starts, length), columns


def places(recording: HBNRecording, windows: HBNWindows) -> tuple[np.ndarray, int, dict[str, np.ndarray]]:
    """Return the positions of windows in a recording, and their columns.

    Returns
    -------
    starts : int array of shape (windows,)
        First samples.
    length : int
        Length of a window, in samples.
    columns : dict
        Arrays of shape (windows,): ``start_s``, ``task``, ``event`` (the last one before the middle of the window), the
        participant's age and factors, for the challenges ``target``, and for challenge 1 ``correct`` and
        ``stimulus_s``.

    Raises
    ------
    ValueError
        If no window fits, no trial has a response, or the target is missing. The message names the recording.
    """
    source = recording.recording
    length = int(round(windows.window_s * source.sfreq))
    reason = why_not(recording, windows)
    if reason:
        raise ValueError(f"{recording.name}: {reason}. Leave it out, or cut it for another purpose.")
    columns: dict[str, np.ndarray] = {}
    if windows.purpose == "challenge1":
        starts, columns = _stimulus_locked(recording, windows)
    else:
        starts, _ = window_starts(source.signal.shape[1], source.sfreq, windows.window_s, windows.stride_s)
    known = {name: float(recording.participant.get(name, np.nan)) for name in PARTICIPANT}
    if windows.purpose == "challenge2":
        columns["target"] = np.full(len(starts), known["externalizing"])
    columns |= {name: np.full(len(starts), value) for name, value in known.items()}
    columns |= {"start_s": starts / source.sfreq, "task": np.full(len(starts), recording.task)}
    columns["event"] = _last_events(source, columns["start_s"] + windows.window_s / 2)
    return starts, length, columns


def why_not(recording: HBNRecording, windows: HBNWindows) -> str:
    """Return the reason why a recording has no windows for a purpose, or "" if it has some."""
    source = recording.recording
    n_times, length = source.signal.shape[1], int(round(windows.window_s * source.sfreq))
    if n_times < length:
        return (
            f"it has {n_times} samples ({n_times / source.sfreq:.2f} s at {source.sfreq:g} Hz), a window of "
            f"{windows.purpose} {length} ({windows.window_s:g} s): no window fits"
        )
    if windows.purpose == "challenge1" and not len(_stimulus_locked(recording, windows)[0]):
        trials = contrast_trials(source.onsets_s, source.labels, recording.feedback)["response_time_s"]
        return f"none of its {len(trials)} trials gives a window ({int(np.isfinite(trials).sum())} were answered)"
    if windows.purpose == "challenge2" and not np.isfinite(recording.participant.get("externalizing", np.nan)):
        return f"subject {recording.subject} has no externalizing factor, the target of challenge 2"
    return ""


def purposes_of(task: str) -> tuple[str, ...]:
    """Return what windows of a task serve: the trait of challenge 2 is in every task, challenge 1 needs its trials."""
    return tuple(purpose for purpose in PURPOSES if purpose != "challenge1" or task == ACTIVE_TASK)


def write_windows(
    recording: HBNRecording, folder: str | Path, windows: Sequence[HBNWindows] | None = None, dtype: str = "float32"
) -> dict[str, Path]:
    """Write the signal of a recording, and one index per purpose, for an item to save.

    Parameters
    ----------
    recording : HBNRecording
    folder : path
        A subfolder with the recording's name is created in it.
    windows : sequence of HBNWindows, optional
        By default pretraining and challenge 2 and, for contrastChangeDetection, challenge 1.
    dtype : {"float32", "float16"}
        Type of the stored signal (see `write_signal`).

    Returns
    -------
    paths : dict
        Key ``signal``, and one key per purpose for its index (see `write_signal`). Purposes without windows are left
        out; the fact ``without`` in the indices holds the reasons.

    Raises
    ------
    ValueError
        If there are no windows for any purpose, or the signal is not finite. The message names the recording.
    """
    if windows is None:
        windows = [HBNWindows.of(purpose) for purpose in purposes_of(recording.task)]
    reasons = {kind.purpose: why_not(recording, kind) for kind in windows}
    if all(reasons.values()):
        raise ValueError(f"{recording.name}: {'; '.join(reasons.values())}. Leave it out.")
    return write_signal(
        Path(folder, recording.name), recording.recording.signal, sfreq=recording.recording.sfreq,
        ch_names=recording.recording.ch_names, subject=recording.subject,
        cuts={kind.purpose: places(recording, kind) for kind in windows if not reasons[kind.purpose]}, dtype=dtype,
        data=recording.recording.data, recording=recording.name, release=recording.release, task=recording.task,
        run=recording.run, without="; ".join(reason for reason in reasons.values() if reason),
    )  # fmt: skip


def _stimulus_locked(recording: HBNRecording, windows: HBNWindows) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return first samples and targets of the trials with a response and a window within the recording."""
    source = recording.recording
    length = int(round(windows.window_s * source.sfreq))
    trials = contrast_trials(source.onsets_s, source.labels, recording.feedback)
    answered = np.isfinite(trials["response_time_s"])
    # As mne does: round the stimulus to a sample, then add a whole number of samples.
    first = np.round(np.nan_to_num(trials["stimulus_s"]) * source.sfreq).astype(int)
    first += int(round(windows.shift_s * source.sfreq))
    inside = answered & (first >= 0) & (first + length <= source.signal.shape[1])
    return first[inside], {
        "target": trials["response_time_s"][inside], "correct": trials["correct"][inside],
        "stimulus_s": trials["stimulus_s"][inside],
    }  # fmt: skip


def _last_events(recording: Recording, times_s: np.ndarray) -> np.ndarray:
    order = np.argsort(np.asarray(recording.onsets_s, float), kind="stable")
    onsets = np.asarray(recording.onsets_s, float)[order]
    labels = np.array(["", *(recording.labels[i] for i in order)])
    return labels[np.searchsorted(onsets, times_s, side="right")]
