"""A use: add generated windows to the training of a decoder, and see whether new people are decoded better.

The simple ways are no added windows, and copies of the training windows with noise. The decoder is the same in all: a
linear discriminant on log band powers, fitted to all training windows and the added ones, scored on each held-out
subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbkit.neuro.bandvar.tokens.generated_scores import PowerClassifier, balanced_accuracy
from nbkit.neuro.bandvar.tokens.samples import RealWindows, Samples
from nbkit.neuro.bandvar.tokens.token_data import TokenData

NONE, NOISE, GENERATED, ALONE = "none added", "noisy copies", "generated", "decoder alone"
_NOISE = 0.3  # of the added noise, in the root mean square of each channel


@dataclass(frozen=True)
class Augmented:
    """Balanced accuracies of a decoder whose training windows were added to.

    Attributes
    ----------
    subjects : tuple of str
        Held-out subjects (runs, if there is one subject) with windows of all classes.
    accuracy : dict of str to array of shape (subjects,)
        By what was added.
    classes : int
    """

    subjects: tuple[str, ...]
    accuracy: dict[str, np.ndarray]
    classes: int


def augment(data: TokenData, train: RealWindows, samples: Samples, seed: int = 0) -> Augmented:
    """Fit the decoder with and without added windows, and score it on held-out subjects.

    Parameters
    ----------
    data : TokenData
    train : RealWindows
        Training windows with their classes.
    samples : Samples
        Generated windows; as many noisy copies are added in their place.
    seed : int
        Seed of the noise.

    Raises
    ------
    ValueError
        If no held-out subject has windows of two classes.
    """
    held_out = RealWindows.of(data, held_out=True, limit=4000)
    known, told = train.classes != "", held_out.classes != ""
    signal, classes = train.signal[known], train.classes[known]
    draws = np.random.default_rng(seed)
    rows = draws.choice(len(signal), len(samples.asked))
    loud = np.sqrt(np.mean(np.square(signal[rows], dtype=np.float64), axis=-1, keepdims=True))
    noisy = signal[rows] + _NOISE * loud * draws.normal(size=signal[rows].shape)
    added = {
        NONE: (signal[:0], classes[:0]),
        NOISE: (noisy.astype(np.float32), classes[rows]),
        GENERATED: (samples.signal, samples.asked),
        ALONE: (samples.alone, samples.asked),
    }
    whose = _subjects(data, len(held_out.classes))
    names = [str(name) for name in np.unique(whose[told]) if len(set(held_out.classes[told & (whose == name)])) > 1]
    if not names:
        raise ValueError("No held-out subject has windows of two classes, so the decoder cannot be scored.")
    accuracy = {}
    for name, (more, of) in added.items():
        decoder = PowerClassifier(data.windows.sfreq, data.windows.bands)
        decoder.fit(np.concatenate([signal, more]), np.concatenate([classes, of]))
        said = decoder.says(held_out.signal)
        mine = [told & (whose == subject) for subject in names]
        accuracy[name] = np.array([balanced_accuracy(said[rows], held_out.classes[rows]) for rows in mine])
    return Augmented(tuple(names), accuracy, len(set(classes)))


def _subjects(data: TokenData, count: int) -> np.ndarray:
    """Return the subject of each evenly spaced held-out window; of runs, if there is one subject."""
    dataset = data.windows.val_dataset
    rows = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    whose = np.array(dataset.column("subject"))
    return (whose if len(set(whose)) > 1 else np.array(dataset.column("run")))[rows]
