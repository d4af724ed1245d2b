"""Synthetic HBN data: HBN's channels, tasks, events and columns, with couplings of known strength.

There are two couplings. The alpha power around a stimulus predicts the response time (challenge 1), and a subject's
frontal theta power predicts the externalizing factor (challenge 2). A strength is the correlation between the hidden
drive and the target: the best possible score is ``sqrt(1 - strength**2)``, and with strength 0 no score below 1 is
possible. The drives change the signal for any strength; the strength changes only the targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.hbn.release import ACTIVE_TASK, check_tasks
from nbkit.neuro.signals.hbn.windows import RESPONSES, STIMULI, TRIAL, HBNRecording, HBNWindows, write_windows
from nbkit.neuro.signals.intake.recording import Recording

STAND_IN = "synthetic HBN: pink noise with planted couplings; no brain was recorded"

_RT_MEAN_S, _RT_SD_S = 1.577, 0.409  # from the 9,595 answered trials of release 3
_RT_RANGE_S = (0.2, 2.35)  # the next trial begins 2.4 s after the stimulus
_WAITS_S = (2.8, 4.4, 6.0)  # from trial start to stimulus, as in the task
_TRIAL_END_S = 2.4
_DRIVE = 0.5  # change of the log amplitude per standard deviation of a drive


@checked
@dataclass(frozen=True)
class SyntheticHBNSettings:
    """Sizes and couplings of the synthetic HBN.

    Parameters
    ----------
    subjects : int
    n_chans : int
        E1, E2 ..., and the flat reference Cz last; 129 is HBN's layout.
    sfreq : float
        Sampling rate, in Hz.
    tasks : tuple of str
        HBN's task names.
    runs : int
        Runs of contrastChangeDetection; other tasks have one.
    trials : int
        Trials per run of contrastChangeDetection.
    seconds : float
        Length of the other tasks' recordings, in s.
    response_time_strength, externalizing_strength : float
        From 0 (no coupling) to 1 (full coupling).
    seed : int
    """

    subjects: int = 40
    n_chans: int = 129
    sfreq: float = 100.0
    tasks: tuple[str, ...] = ("RestingState", "surroundSupp", "contrastChangeDetection")
    runs: int = 2
    trials: int = 24
    seconds: float = 120.0
    response_time_strength: float = 0.9
    externalizing_strength: float = 0.9
    seed: int = 2025

    @classmethod
    def smoke(cls) -> SyntheticHBNSettings:
        """Return settings for a short test: twenty subjects, several per side of a split, and 32 channels."""
        return cls(subjects=20, n_chans=32, tasks=("RestingState", "contrastChangeDetection"), runs=1, trials=10,
                   seconds=24.0)  # fmt: skip

    @classmethod
    def free(cls) -> SyntheticHBNSettings:
        """Return settings with HBN's 129 channels and 200 subjects, as in the ten mini releases."""
        return cls(subjects=200, seconds=300.0)

    def __post_init__(self) -> None:
        check_tasks(self.tasks)
        for name in ("response_time_strength", "externalizing_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Invalid {name}={getattr(self, name)}; give a strength from 0 (no coupling) to 1.")
        if self.subjects < 1 or self.n_chans < 2 or self.runs < 1 or self.trials < 1:
            raise ValueError(f"Too small: {self}; subjects, runs and trials must be at least 1, n_chans at least 2.")


def hbn_ch_names(n_chans: int = 129) -> tuple[str, ...]:
    """Return HBN's channel names: E1, E2 ..., and Cz last."""
    return (*(f"E{number}" for number in range(1, n_chans)), "Cz")


def synthetic_rows(settings: SyntheticHBNSettings, tasks: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Return one manifest row per recording, with the columns of `hbn.hbn_rows`."""
    rows = []
    for number in range(settings.subjects):
        subject = f"SYN{number + 1:04d}"
        for task in check_tasks(settings.tasks if tasks is None else tasks):
            for run in range(1, settings.runs + 1) if task == ACTIVE_TASK else ("",):
                key = f"sub-{subject}_task-{task}" + (f"_run-{run}" if run else "")
                row = {"key": key, "source": "synthetic_hbn", "path": "", "release": "", "subject": subject}
                rows.append({**row, "task": task, "run": str(run)})
    return rows


def synthetic_recording(row: Mapping[str, Any], settings: SyntheticHBNSettings) -> HBNRecording:
    """Return the synthetic recording of a row; equal rows and settings give equal numbers on all machines."""
    subject, task, run = str(row["subject"]), str(row["task"]), str(row["run"])
    person = _Person(subject, settings)
    draws = _generator(settings.seed, subject, task, run)
    trials = _Trials(draws, person, settings) if task == ACTIVE_TASK else None
    seconds = settings.seconds if trials is None else trials.seconds
    n_times, n_chans, sfreq = int(round(seconds * settings.sfreq)), settings.n_chans - 1, settings.sfreq
    place = np.arange(n_chans) / max(1, n_chans - 1)  # from 0 (front) to 1 (back)
    alpha_gain = np.zeros(n_times) if trials is None else trials.alpha_gain(n_times, sfreq)
    alpha = _rhythm(draws, n_times, sfreq, person.alpha_hz) * np.exp(_DRIVE * alpha_gain)
    theta = _rhythm(draws, n_times, sfreq, 6.0) * np.exp(_DRIVE * person.trait)
    signal = np.zeros((settings.n_chans, n_times))
    signal[:-1] = 6.0 * _pink(draws, (n_chans, n_times), sfreq) + 6.0 * _pink(draws, (1, n_times), sfreq)
    rest = 1.5 if task == "RestingState" else 1.0
    signal[:-1] += person.alpha_uv * rest * place[:, None] * alpha + 6.0 * (1 - place)[:, None] * theta
    events = [(0.0, "break cnt", "n/a")] if trials is None else trials.events
    if trials is not None:
        signal[:-1] += place[:, None] * trials.evoked(n_times, sfreq)
    onsets, labels, feedback = zip(*events, strict=True)
    recording = Recording(
        signal=signal, sfreq=sfreq, ch_names=hbn_ch_names(settings.n_chans), onsets_s=tuple(onsets),
        durations_s=(0.0,) * len(onsets), labels=tuple(labels), data=STAND_IN,
    )  # fmt: skip
    return HBNRecording(recording, subject, task, run, "", person.participant, tuple(feedback))


def make_synthetic_windows(
    row: Mapping[str, Any],
    folder: str | Path,
    settings: SyntheticHBNSettings,
    windows: Sequence[HBNWindows] | None = None,
) -> dict[str, Path]:
    """Write the shard of one synthetic recording below a folder, as `hbn.make_windows` does for a real one."""
    return write_windows(synthetic_recording(row, settings), folder, windows)


def write_synthetic_hbn(
    folder: str | Path, purpose: str, settings: SyntheticHBNSettings, tasks: Sequence[str] | None = None
) -> list[Path]:
    """Write the shards of all recordings below a folder and return their paths.

    Parameters
    ----------
    folder : path
    purpose : {"pretrain", "challenge1", "challenge2"}
    settings : SyntheticHBNSettings
    tasks : sequence of str, optional
        By default those of the settings; for challenge 1 only contrastChangeDetection.
    """
    if tasks is None and purpose == "challenge1":
        tasks = (ACTIVE_TASK,)
    rows, windows = synthetic_rows(settings, tasks), [HBNWindows.of(purpose)]
    made = [make_synthetic_windows(row, folder, settings, windows) for row in rows]
    return [path for paths in made for path in paths.values()]


class _Person:
    """Constants of a subject: rhythms, trait and factors."""

    def __init__(self, subject: str, settings: SyntheticHBNSettings) -> None:
        draws = _generator(settings.seed, subject)
        self.alpha_hz, self.alpha_uv = draws.uniform(9.0, 11.0), draws.uniform(7.0, 9.0)
        self.trait, rest = draws.standard_normal(2)
        self.speed = 0.1 * draws.standard_normal()  # differs between subjects, without any trace in the signal
        tied = settings.externalizing_strength
        factors = 0.8 * draws.standard_normal(3)
        self.participant = {
            "age": float(draws.uniform(5, 21)), "sex": float(int(subject[-1], 36) % 2),
            "p_factor": factors[0], "attention": factors[1],
            "internalizing": factors[2], "externalizing": float(tied * self.trait + np.sqrt(1 - tied**2) * rest),
        }  # fmt: skip


@dataclass
class _Trials:
    """Trials of a contrast change detection run."""

    draws: np.random.Generator
    person: _Person
    settings: SyntheticHBNSettings
    events: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count, tied = self.settings.trials, self.settings.response_time_strength
        self.drive, rest = self.draws.standard_normal((2, count))
        hidden = tied * self.drive + np.sqrt(1 - tied**2) * rest
        times = np.clip(_RT_MEAN_S + _RT_SD_S * hidden + _RT_SD_S * 0.1 * self.person.speed, *_RT_RANGE_S)
        now, self.stimuli = 2.0, []
        self.events.append((now, "contrastChangeB1_start", "n/a"))
        for number in range(count):
            self.events.append((round(now, 3), TRIAL, "n/a"))
            stimulus = now + self.draws.choice(_WAITS_S)
            side = int(self.draws.integers(2))
            self.events.append((round(stimulus, 3), STIMULI[side], "n/a"))
            self.stimuli.append(stimulus)
            if self.draws.random() > 0.05:  # some trials have no response
                face = "smiley_face" if self.draws.random() > 0.1 else "sad_face"
                pressed = RESPONSES[side if face == "smiley_face" else 1 - side]
                self.events.append((round(stimulus + times[number], 3), pressed, face))
            now = stimulus + _TRIAL_END_S
        self.events.append((round(now, 3), "end_experiment", "n/a"))
        self.seconds = now + 2.0

    def alpha_gain(self, n_times: int, sfreq: float) -> np.ndarray:
        """Return the drive over time: that of a trial from 1 s before to 2.5 s after its stimulus, else 0."""
        time, gain = np.arange(n_times) / sfreq, np.zeros(n_times)
        for stimulus, drive in zip(self.stimuli, self.drive, strict=True):
            gain[(time >= stimulus - 1.0) & (time < stimulus + 2.5)] = drive
        return gain

    def evoked(self, n_times: int, sfreq: float) -> np.ndarray:
        """Return a slow wave 0.4 s after each stimulus, in uV, equal for all trials."""
        time = np.arange(n_times) / sfreq
        return sum(8.0 * np.exp(-0.5 * ((time - stimulus - 0.4) / 0.1) ** 2) for stimulus in self.stimuli)


def _generator(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(":".join([str(seed), *names]).encode()).digest()))


def _pink(draws: np.random.Generator, shape: tuple[int, int], sfreq: float) -> np.ndarray:
    """Return noise with a power of 1/f from 0.5 Hz on; each row has a standard deviation of 1."""
    freqs = np.fft.rfftfreq(shape[1], 1 / sfreq)
    shaping = np.where(freqs >= 0.5, 1 / np.sqrt(np.maximum(freqs, 0.5)), 0.0)
    noise = np.fft.irfft(np.fft.rfft(draws.standard_normal(shape), axis=1) * shaping, n=shape[1], axis=1)
    return noise / noise.std(axis=1, keepdims=True)


def _rhythm(draws: np.random.Generator, n_times: int, sfreq: float, freq: float) -> np.ndarray:
    """Return a rhythm of about 1 Hz width with a standard deviation of 1."""
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    shaping = np.exp(-0.5 * ((freqs - freq) / 0.5) ** 2)
    wave = np.fft.irfft(np.fft.rfft(draws.standard_normal(n_times)) * shaping, n=n_times)
    return wave / wave.std()
