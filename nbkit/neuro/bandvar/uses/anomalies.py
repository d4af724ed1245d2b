"""A use: find bad windows by what the tokens cannot say.

Artifacts are planted in held-out windows, so it is known which ones are bad. Three scores look for them: the largest
peak-to-peak amplitude, which is the usual threshold; the strangest band power of a channel; and the strangest part that
the tokens leave over. The last two are made alike: logarithms, in standard deviations of training windows, and the
largest over channels and bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer
from nbkit.neuro.signals.bands import cumulative_frequency_levels, edge_samples

ARTIFACTS = ("muscle burst", "electrode pop", "strange channel")
AMPLITUDE, POWER, TOKENS = "amplitude", "band power", "tokens"
_SIZE = 1.0  # root mean square of a burst, in that of a channel of the training windows
_POP = 6.0  # height of a pop, in the same unit


@dataclass(frozen=True)
class Detection:
    """Areas under the ROC curve, clean windows of a subject against the same windows with an artifact.

    Attributes
    ----------
    subjects : tuple of str
        Held-out subjects (runs, if there is one subject).
    auc : dict of (str, str) to array of shape (subjects,)
        By artifact and score; 0.5 is chance.
    """

    subjects: tuple[str, ...]
    auc: dict[tuple[str, str], np.ndarray]

    def mean(self, score: str) -> np.ndarray:
        """Return the mean over artifacts by subject, (subjects,)."""
        return np.mean([self.auc[kind, score] for kind in ARTIFACTS], axis=0)


def detect(tokenizer: BandTokenizer, data: BandData, limit: int = 600, seed: int = 0) -> Detection:
    """Plant artifacts in held-out windows and look for them.

    Parameters
    ----------
    tokenizer : BandTokenizer
        Trained on the training windows of ``data``.
    data : BandData
    limit : int
        Most training windows that the scores are calibrated with, and most held-out windows.
    seed : int
        Seed of the artifacts.
    """
    known = data.train_dataset.stack(limit)
    size = float(np.sqrt(np.mean(np.square(known[:, -1], dtype=np.float64))))
    scores = {AMPLITUDE: _amplitude, POWER: _strangest(_powers, known), TOKENS: _strangest(_left_by(tokenizer), known)}
    clean = data.val_dataset.stack(limit)
    whose = _subjects(data, len(clean))
    names, groups = np.unique(whose, return_inverse=True)
    draws = np.random.default_rng(seed)
    before = {name: score(clean) for name, score in scores.items()}
    auc = {}
    for kind in ARTIFACTS:
        bad = np.stack([plant(kind, window, size, data.sfreq, data.bands, draws) for window in clean])
        for name, score in scores.items():
            after = score(bad)
            auc[kind, name] = np.array([area(before[name][groups == g], after[groups == g]) for g in range(len(names))])
    return Detection(tuple(str(name) for name in names), auc)


def plant(
    kind: str, levels: np.ndarray, size: float, sfreq: float, bands: tuple, draws: np.random.Generator
) -> np.ndarray:
    """Return the cumulative bands of a window with an artifact.

    The bands are linear in the signal, so those of the artifact are computed by themselves, with room for the filters,
    and added.

    Parameters
    ----------
    kind : str
        One of `ARTIFACTS`: a burst of 20 to 45 Hz in a sixth of the channels for half a second; a step in one channel
        that decays; or a channel that is replaced by noise of its own loudness and slope, as of a loose electrode.
    levels : array of shape (bands, channels, time)
        Of a clean window, in uV.
    size : float
        Root mean square of a channel, in uV.
    sfreq : float
        In Hz.
    bands : sequence of (l_freq, h_freq)
        In Hz.
    draws : numpy Generator

    Returns
    -------
    levels : array of shape (bands, channels, time)
        In uV.
    """
    _, channels, steps = levels.shape
    room = edge_samples(sfreq, bands)
    canvas = np.zeros((channels, steps + 2 * room))
    where = draws.choice(channels, max(1, channels // 6) if kind == "muscle burst" else 1, replace=False)
    begin = room + int(draws.integers(steps // 2))
    if kind == "muscle burst":
        span = int(0.5 * sfreq)
        spectrum = np.fft.rfft(draws.normal(size=(len(where), span)))
        freqs = np.fft.rfftfreq(span, 1 / sfreq)
        burst = np.fft.irfft(spectrum * ((freqs >= 20) & (freqs <= 45)), n=span) * np.hanning(span)
        canvas[where, begin : begin + span] = size * _SIZE * burst / np.sqrt(np.mean(burst**2))
    elif kind == "electrode pop":
        decay = np.exp(-np.arange(canvas.shape[1] - begin) / (0.3 * sfreq))
        canvas[where, begin:] = draws.choice([-1, 1]) * size * _POP * decay
    elif kind == "strange channel":
        noise = np.cumsum(draws.normal(size=canvas.shape[1]))
        made = cumulative_frequency_levels(noise[None], sfreq, bands)[:, 0, room : room + steps]
        old = levels[:, where[0]]
        changed = levels.copy()
        changed[:, where[0]] = made * np.sqrt(np.mean(old[-1] ** 2) / max(np.mean(made[-1] ** 2), 1e-12))
        return changed
    else:
        raise ValueError(f"{kind!r} is no artifact; give {', '.join(ARTIFACTS)}.")
    return levels + cumulative_frequency_levels(canvas, sfreq, bands)[:, :, room : room + steps].astype(np.float32)


def area(clean: np.ndarray, bad: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a bad window has the higher score; ties count half."""
    difference = bad[:, None] - clean[None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _amplitude(levels: np.ndarray) -> np.ndarray:
    return np.ptp(levels[:, -1], axis=-1).max(axis=-1)


def _powers(levels: np.ndarray) -> np.ndarray:
    return np.square(np.diff(levels, axis=1, prepend=0.0)).mean(axis=-1)


def _left_by(tokenizer: BandTokenizer) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that computes the power that the tokens leave over, (windows, bands, channels) in uV^2."""

    @torch.no_grad()
    def left(levels: np.ndarray) -> np.ndarray:
        was_training, device = tokenizer.training, tokenizer.band_rms.device
        tokenizer.eval()
        parts = []
        for part in torch.from_numpy(levels).split(64):
            made = tokenizer.decode(tokenizer.encode(part.to(device))).cpu().numpy()
            parts.append(_powers(part.numpy() - made))
        tokenizer.train(was_training)
        return np.concatenate(parts)

    return left


def _strangest(powers: Callable[[np.ndarray], np.ndarray], known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a score: the largest distance of a log power from that of known windows, in standard deviations."""
    usual = np.log(powers(known) + 1e-12)
    mean, spread = usual.mean(axis=0), usual.std(axis=0) + 1e-6

    def score(levels: np.ndarray) -> np.ndarray:
        return (np.abs(np.log(powers(levels) + 1e-12) - mean) / spread).max(axis=(1, 2))

    return score


def _subjects(data: BandData, count: int) -> np.ndarray:
    """Return the subject of each evenly spaced held-out window; of runs, if there is one subject."""
    rows = np.linspace(0, len(data.val_dataset) - 1, count).round().astype(int)
    whose = np.array(data.val_dataset.column("subject"))
    return (whose if len(set(whose)) > 1 else np.array(data.val_dataset.column("run")))[rows]
