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

from nbkit.neuro.signals.recording import Recording
from nbkit.neuro.signals.shards import write_shard
from nbkit.neuro.signals.windows import cut_windows, window_starts

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
        """Give the windows of a purpose by its name."""
        known = {name: getattr(cls, name) for name in ("pretrain", "challenge1", "challenge2")}
        if purpose not in known:
            raise ValueError(f"{purpose=} is unknown; it may be {', '.join(known)}.")
        return known[purpose]()


def contrast_trials(
    onsets_s: Sequence[float], values: Sequence[str], feedback: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Give the trials of a contrast change detection run: the first stimulus of each and the first response after it.

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
        Of arrays of shape (windows,): ``start_s``, ``task``, ``event`` (the last event at or before the window's
        middle), the participant's age and factors, and for the challenges ``target`` (challenge 1: ``correct``, too).

    Raises
    ------
    ValueError
        With the recording's name: if no window fits, no trial was answered, or the target is missing.
    """
    signal, sfreq = recording.recording.signal, recording.recording.sfreq
    length = int(round(windows.window_s * sfreq))
    if signal.shape[1] < length:
        raise ValueError(
            f"{recording.name} has {signal.shape[1]} samples ({signal.shape[1] / sfreq:.2f} s at {sfreq:g} Hz), a "
            f"window {length} ({windows.window_s:g} s): no window fits. Leave it out."
        )
    columns: dict[str, np.ndarray] = {}
    if windows.purpose == "challenge1":
        starts, columns = _stimulus_locked(recording, windows, length)
    else:
        starts, _ = window_starts(signal.shape[1], sfreq, windows.window_s, windows.stride_s)
    start_s = starts / sfreq
    known = {name: float(recording.participant.get(name, np.nan)) for name in PARTICIPANT}
    if windows.purpose == "challenge2":
        if not np.isfinite(known["externalizing"]):
            raise ValueError(
                f"{recording.name}: subject {recording.subject} has no externalizing factor, the target of challenge "
                "2. Leave the subject out (hbn_rows does), or cut for another purpose."
            )
        columns["target"] = np.full(len(starts), known["externalizing"])
    columns |= {name: np.full(len(starts), value) for name, value in known.items()}
    columns |= {"start_s": start_s, "task": np.full(len(starts), recording.task)}
    columns["event"] = _last_events(recording.recording, start_s + windows.window_s / 2)
    return cut_windows(signal, starts, length), columns


def write_windows(recording: HBNRecording, folder: str | Path, windows: HBNWindows) -> dict[str, Path]:
    """Cut one recording and write its shard below a folder, for an item to save.

    Returns
    -------
    paths : dict
        ``windows`` and ``index`` (see `write_shard`).
    """
    signal, columns = cut(recording, windows)
    return write_shard(
        Path(folder, recording.name), signal, sfreq=recording.recording.sfreq, ch_names=recording.recording.ch_names,
        subject=recording.subject, columns=columns, data=recording.recording.data, recording=recording.name,
        release=recording.release, task=recording.task, run=recording.run, purpose=windows.purpose,
    )  # fmt: skip


def _stimulus_locked(
    recording: HBNRecording, windows: HBNWindows, length: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """First samples and targets of the answered trials whose window lies in the recording."""
    source = recording.recording
    trials = contrast_trials(source.onsets_s, source.labels, recording.feedback)
    answered = np.isfinite(trials["response_time_s"])
    # as mne places events: the stimulus on its nearest sample, the window a whole number of samples after it
    first = np.round(np.nan_to_num(trials["stimulus_s"]) * source.sfreq).astype(int)
    first += int(round(windows.shift_s * source.sfreq))
    inside = answered & (first >= 0) & (first + length <= source.signal.shape[1])
    if not inside.any():
        raise ValueError(
            f"{recording.name}: none of its {len(answered)} trials gives a window ({int(answered.sum())} answered). "
            "Challenge 1 needs runs of contrastChangeDetection with responses; leave this one out."
        )
    return first[inside], {
        "target": trials["response_time_s"][inside], "correct": trials["correct"][inside],
        "stimulus_s": trials["stimulus_s"][inside],
    }  # fmt: skip


def _last_events(recording: Recording, times_s: np.ndarray) -> np.ndarray:
    order = np.argsort(np.asarray(recording.onsets_s, float), kind="stable")
    onsets = np.asarray(recording.onsets_s, float)[order]
    labels = np.array(["", *(recording.labels[i] for i in order)])
    return labels[np.searchsorted(onsets, times_s, side="right")]
