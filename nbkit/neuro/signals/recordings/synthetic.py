"""Synthetic EEG.

There is one sinusoid per band, with a fixed phase for each channel. The next band is thus a known function of the
channel, which is not the case for real EEG: scores on these data show that the code works and nothing about brains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, effective_bands
from nbkit.neuro.signals.intake.recording import Recording

STAND_IN = "synthetic stand-in: one sinusoid a band, phases fixed per channel; no brain was recorded"

REST_STAND_IN = "synthetic stand-in: noise, and at rest a planted 10 Hz rhythm at the back; no brain was recorded"

_MONTAGE_19 = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip
_TONES_HZ = (2.0, 6.0, 10.0, 20.0, 40.0)  # integers, so that windows that start at a full second start in phase
_AMPLITUDES_UV = (40.0, 15.0, 12.0, 8.0, 4.0)  # decreasing with frequency, as in EEG
_NOISE_UV = 2.0


def dummy_sample(
    index: int,
    channels: int = 32,
    steps: int = 128,
    sfreq: float = 100.0,
    bands: Sequence[Band] = DEFAULT_BANDS,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return one sample of the dummy data: the sum of one sinusoid per band, with amplitudes from 0.8 to 1.2.

    Time has steps of ``1 / sfreq`` (in the seed project, it ran from 0 to 1 s for any ``sfreq``).

    Parameters
    ----------
    index : int
        Number of the sample; with ``seed`` it determines the amplitudes.
    channels, steps : int
    sfreq : float
        Sampling rate, in Hz.
    bands : sequence of (l_freq, h_freq)
        Edges, in Hz; the tone of a band is at its centre.
    seed : int

    Returns
    -------
    sample : dict
        ``signal`` of shape (channels, time), ``cumulative_bands`` of shape (bands, channels, time), ``bands`` of shape
        (bands, 2) in Hz, ``sfreq``; the layout of an npz file. The signal has no unit and a size of about 1.
    """
    edges = effective_bands(bands, sfreq)
    draws = np.random.default_rng([seed, index])
    amplitudes = draws.uniform(0.8, 1.2, size=(len(edges), channels, 1))
    levels = np.cumsum(amplitudes * _tones([(low + high) / 2 for low, high in edges], channels, steps, sfreq), axis=0)
    return {
        "signal": levels[-1].astype(np.float32),
        "cumulative_bands": levels.astype(np.float32),
        "bands": np.array(edges, np.float32),
        "sfreq": np.float32(sfreq),
    }


def write_dummy_dataset(
    root: str | Path,
    train: int = 64,
    val: int = 16,
    channels: int = 32,
    steps: int = 128,
    sfreq: float = 100.0,
    bands: Sequence[Band] = DEFAULT_BANDS,
    seed: int = 0,
) -> Path:
    """Write ``<root>/{train,val}/sample_NNN.npz`` and return the root; equal calls write equal numbers.

    Raises
    ------
    FileExistsError
        If the folder already holds other npz samples.
    """
    root = Path(root)
    names = [f"{split}/sample_{i:03d}.npz" for split, count in (("train", train), ("val", val)) for i in range(count)]
    others = sorted({f.relative_to(root).as_posix() for f in root.rglob("*.npz")} - set(names))
    if others:
        raise FileExistsError(
            f"{root} already holds {len(others)} other npz files ({others[0]}, ...); they would be used for "
            "training too. Nothing was written. Give an empty folder."
        )
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / name, **dummy_sample(number, channels, steps, sfreq, bands, seed))
    return root


def recording(
    subject: int | str = 1, run: int | str = 1, sfreq: float = 160.0, n_chans: int = 64, duration_s: float = 125.0
) -> Recording:
    """Return a continuous synthetic recording: a tone in each default band with EEG-like amplitudes, and noise.

    Subject and run determine noise and amplitudes (within 20 %), never the phases.
    """
    draws = np.random.default_rng([*str(subject).encode(), 0, *str(run).encode()])
    n_times = int(round(duration_s * sfreq))
    gains = np.array(_AMPLITUDES_UV)[:, None, None] * draws.uniform(0.8, 1.2, size=(len(_TONES_HZ), n_chans, 1))
    signal = (gains * _tones(_TONES_HZ, n_chans, n_times, sfreq)).sum(axis=0)
    signal += _NOISE_UV * draws.standard_normal(signal.shape)
    onsets = np.arange(0.0, duration_s - 4.0, 4.0)
    labels = tuple("T0" if i % 2 == 0 else ("T1", "T2")[i // 2 % 2] for i in range(len(onsets)))
    return Recording(
        signal=signal,
        sfreq=float(sfreq),
        ch_names=tuple(f"SYN{channel + 1:03d}" for channel in range(n_chans)),
        onsets_s=tuple(onsets.tolist()),
        durations_s=(4.0,) * len(onsets),
        labels=labels,
        data=STAND_IN,
    )


def rows(subjects: Sequence[int] = (1,), runs: Sequence[int] = (1,)) -> list[dict[str, str]]:
    """Return one manifest row per run of each synthetic subject."""
    pairs = [(str(subject), str(run)) for subject in subjects for run in runs]
    return [
        {
            "key": f"synthetic_sub-{s.zfill(3)}_run-{r.zfill(2)}",
            "source": "synthetic",
            "path": "",
            "subject": s,
            "run": r,
        }
        for s, r in pairs
    ]


def rest_recording(subject: int | str, run: str, sfreq: float = 160.0, duration_s: float = 40.0) -> Recording:
    """Return a synthetic recording with 19 electrodes of the 10-20 system; in the run "rest" the back has a rhythm.

    The rhythm has 10 Hz and is what separates the two labels, so a decoder and a map of the head have a known answer.
    """
    draws = np.random.default_rng([*str(subject).encode(), 0, *str(run).encode()])
    n_times = int(round(duration_s * sfreq))
    signal = 10.0 * draws.standard_normal((len(_MONTAGE_19), n_times))
    phase = 2 * np.pi * 10.0 * np.arange(n_times) / sfreq + draws.uniform(0, 2 * np.pi)
    back = np.array([name[0] in "PO" for name in _MONTAGE_19])
    signal += 6.0 * np.sin(phase) * back[:, None] * (run == "rest")
    whole = {"onsets_s": (0.0,), "durations_s": (duration_s,), "labels": (run,)}
    return Recording(signal, float(sfreq), _MONTAGE_19, **whole, data=REST_STAND_IN)


def rest_rows(subjects: Sequence[int] = (1, 2, 3, 4)) -> list[dict[str, str]]:
    """Return the rows of two runs of each synthetic subject, "rest" and "task", see `rest_recording`."""
    return [
        {"key": f"synthetic_sub-{s:03d}_{run}", "source": "synthetic_rest", "path": "", "subject": str(s), "run": run}
        for s in subjects
        for run in ("rest", "task")
    ]


def _tones(freqs: Sequence[float], channels: int, steps: int, sfreq: float) -> np.ndarray:
    """Return sinusoids of shape (bands, channels, time); the phase depends only on band and channel."""
    time = np.arange(steps) / sfreq
    phases = 2 * np.pi * (np.arange(channels)[None, :] / channels + 0.37 * np.arange(len(freqs))[:, None])
    return np.sin(2 * np.pi * np.asarray(freqs)[:, None, None] * time + phases[:, :, None])
