"""Windows of one HBN recording, by purpose: pretraining, challenge 1, challenge 2.

The challenge's contract: challenge 1 takes 0.5 to 2.5 s after each stimulus that was answered, its target the response
time in s; challenge 2 takes 4 s windows every 2 s, its target the subject's externalizing factor. Signals are in uV and
no window reaches over the recording's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.hbn.release import ACTIVE_TASK
from nbkit.neuro.signals.recordings.recording import Recording
from nbkit.neuro.signals.windows.cutting import cut_windows, window_starts
from nbkit.neuro.signals.windows.shard_writing import write_signal

PURPOSES = ("pretrain", "challenge1", "challenge2")
TRIAL, END = "contrastTrial_start", "end_experiment"
STIMULI = ("left_target", "right_target")
RESPONSES = ("left_buttonPress", "right_buttonPress")
PARTICIPANT = ("age", "p_factor", "attention", "internalizing", "externalizing")


@dataclass(frozen=True)
class HBNRecording:
    """One recording with what is known of its subject.

    Parameters
    ----------
    recording : Recording
        Signal in uV and events.
    subject, task, run : str
        Subject without ``sub-``; run is "" where the task has one only.
    release : str
        R1 to R11 without R5, or "" for a stand-in.
    participant : mapping of str to float
        Age in years and the factors; NaN where missing.
    feedback : tuple of str
        What the events' feedback column says, one an event.
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
        """As HBN's files have it: sub-X_task-Y_run-1."""
        return f"sub-{self.subject}_task-{self.task}" + (f"_run-{self.run}" if self.run else "")


@dataclass(frozen=True)
class HBNWindows:
    """Say how windows are cut.

    Parameters
    ----------
    purpose : {"pretrain", "challenge1", "challenge2"}
    window_s, stride_s : float
        In s; challenge 1 has one window a trial and no stride.
    shift_s : float
        From the stimulus to the window's start, in s (challenge 1).
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
        """Return the windows of a purpose by its name."""
        if purpose not in PURPOSES:
            raise ValueError(f"{purpose=} is unknown; it may be {', '.join(PURPOSES)}.")
        return getattr(cls, purpose)()


def contrast_trials(
    onsets_s: Sequence[float], values: Sequence[str], feedback: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return the trials of a contrast change detection run: the first stimulus of each and the first response after it.

    A trial ends where the next begins, or at the experiment's end; a last one without an end is left out.

    Parameters
    ----------
    onsets_s : sequence of float
        Of the events, in s.
    values, feedback : sequence of str
        Their names and feedback, as in events.tsv.

    Returns
    -------
    trials : dict
        Of arrays of shape (trials,): ``start_s``, ``stimulus_s``, ``response_s``, ``response_time_s`` (NaN where there
        is none) and ``correct`` (1, 0, or NaN where no feedback says).
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
    """Cut one recording.

    Returns
    -------
    signal : array of shape (windows, channels, time)
        In uV.
    columns : dict
        As of `places`.
    """
    starts, length, columns = places(recording, windows)
    return cut_windows(recording.recording.signal, starts, length), columns


def places(recording: HBNRecording, windows: HBNWindows) -> tuple[np.ndarray, int, dict[str, np.ndarray]]:
    """Return where windows lie in a recording, and what is known of each.

    Returns
    -------
    starts : int array of shape (windows,)
        First samples.
    length : int
        In samples.
    columns : dict
        Of arrays of shape (windows,): ``start_s``, ``task``, ``event`` (the last one before the window's middle), the
        participant's age and factors, and for the challenges ``target`` (for challenge 1 ``correct`` and
        ``stimulus_s``, too).

    Raises
    ------
    ValueError
        With the recording's name: if no window fits, no trial was answered, or the target is missing.
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
    """Return the reason why a recording has no windows for a purpose, "" where it has."""
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


def write_windows(
    recording: HBNRecording, folder: str | Path, windows: Sequence[HBNWindows] | None = None, dtype: str = "float32"
) -> dict[str, Path]:
    """Write a recording's signal once and an index for each purpose that it serves, for an item to save.

    Parameters
    ----------
    recording : HBNRecording
    folder : path
        A folder of the recording's name is made in it.
    windows : sequence of HBNWindows, optional
        Pretraining, and for contrastChangeDetection both challenges, where not given.
    dtype : {"float32", "float16"}
        Of the stored signal (see `write_signal`).

    Returns
    -------
    paths : dict
        ``signal`` and an index by each purpose (see `write_signal`). What the recording cannot serve is left out and
        said in the indices' fact ``without``.

    Raises
    ------
    ValueError
        With the recording's name, if it serves no purpose or its signal is not finite.
    """
    if windows is None:
        wanted = PURPOSES if recording.task == ACTIVE_TASK else PURPOSES[:1]
        windows = [HBNWindows.of(purpose) for purpose in wanted]
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
    """First samples and targets of the answered trials whose window lies in the recording."""
    source = recording.recording
    length = int(round(windows.window_s * source.sfreq))
    trials = contrast_trials(source.onsets_s, source.labels, recording.feedback)
    answered = np.isfinite(trials["response_time_s"])
    # as mne places events: the stimulus on its nearest sample, the window a whole number of samples after it
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
