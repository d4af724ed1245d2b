"""Low-level regressors of a stimulus at 2 Hz: when and how much is said, and how loud which pitch is.

Every encoding result needs them as a rival: much of a language region's response to a story follows the rate of words
(Brennan et al., 2016). They are columns without a haemodynamic response; a model adds its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.neuro.tribe.stimuli.decode import AUDIO_RATE, Word
from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ

WORD_NAMES = ("word rate", "speech", "letters")
MEL_BANDS = 8
SOUND_NAMES = ("sound power", *(f"mel {band + 1}" for band in range(MEL_BANDS)))


def word_regressors(words: Sequence[Word], steps: int) -> np.ndarray:
    """Return the words' onsets per second, the share of each step with speech, and the letters per second.

    Returns
    -------
    columns : float32 array of shape (steps, 3), in the order of `WORD_NAMES`
    """
    made = np.zeros((steps, len(WORD_NAMES)), np.float32)
    edges = np.arange(steps + 1) / FEATURE_HZ
    for word in words:
        step = int(word.start_s * FEATURE_HZ)
        if 0 <= step < steps:
            made[step, 0] += FEATURE_HZ
            made[step, 2] += FEATURE_HZ * sum(letter.isalnum() for letter in word.text)
        first, last = max(0, step), min(steps, int(np.ceil(word.end_s * FEATURE_HZ)))
        overlap = np.minimum(edges[first + 1 : last + 1], word.end_s) - np.maximum(edges[first:last], word.start_s)
        made[first:last, 1] += np.clip(overlap, 0, None) * FEATURE_HZ
    return made


def sound_regressors(samples: np.ndarray, mel: np.ndarray) -> np.ndarray:
    """Return the root mean square and the mean log-mel power of `MEL_BANDS` bands, step by step.

    Parameters
    ----------
    samples : ndarray of shape (samples,)
        Sound at 16 kHz, up to 30 s.
    mel : ndarray of shape (mels, frames)
        Log-mel spectrogram at 100 frames per second, of Whisper's feature extractor.

    Returns
    -------
    columns : float32 array of shape (steps, 1 + MEL_BANDS), in the order of `SOUND_NAMES`
    """
    each = int(AUDIO_RATE / FEATURE_HZ)
    steps = int(np.ceil(len(samples) / each - 1e-3))
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, steps * each - len(samples))))[: steps * each]
    power = np.sqrt((padded.reshape(steps, each) ** 2).mean(1))
    frames = int(100 / FEATURE_HZ)
    bands = np.array_split(np.asarray(mel, np.float64)[:, : steps * frames], MEL_BANDS)
    mean = [band.mean(0).reshape(steps, frames).mean(1) for band in bands]
    return np.stack([power, *mean], axis=1).astype(np.float32)
