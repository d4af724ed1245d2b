"""Scores of generated windows: spectra, copies of training windows, and classification.

Each score has a counterpart from real windows: two halves of real data differ as well, and a classifier is not expected
to be better on generated windows than on real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import Band


def mean_spectrum(windows: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean power spectral density of windows.

    Each window is one Hann-windowed segment with its mean removed.

    Parameters
    ----------
    windows : array of shape (windows, channels, time)
        In uV.
    sfreq : float
        In Hz.

    Returns
    -------
    freqs : array of shape (freqs,)
        In Hz.
    density : array of shape (channels, freqs)
        In uV^2/Hz.
    """
    freqs, powers = window_spectra(windows, sfreq)
    return freqs, powers.mean(axis=0)


def window_spectra(windows: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies (Hz) and the power spectral density of each window.

    The density has shape (windows, channels, freqs) and is in uV^2/Hz; `mean_spectrum` is its mean over windows.
    """
    windows = np.asarray(windows, dtype=np.float64)
    steps = windows.shape[-1]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(steps) / steps)
    spectra = np.abs(np.fft.rfft((windows - windows.mean(axis=-1, keepdims=True)) * taper)) ** 2
    spectra /= sfreq * (taper**2).sum()
    spectra[..., 1 : -1 if steps % 2 == 0 else None] *= 2  # one-sided: add the power of the negative frequencies
    return np.fft.rfftfreq(steps, 1 / sfreq), spectra


def spectrum_gap(
    generated: np.ndarray, real: np.ndarray, sfreq: float, l_freq: float = 1.0, h_freq: float = 40.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference in dB between the mean spectra of generated and real windows, averaged over channels.

    Parameters
    ----------
    generated, real : array of shape (windows, channels, time)
        In uV.
    sfreq : float
        Sampling frequency in Hz.
    l_freq, h_freq : float
        Frequency range in Hz.

    Returns
    -------
    freqs : array of shape (freqs,)
        From ``l_freq`` to ``h_freq``, in Hz.
    gap : array of shape (freqs,)
        In dB; negative where the generated windows have too little power.
    """
    freqs, ours = mean_spectrum(generated, sfreq)
    theirs = mean_spectrum(real, sfreq)[1]
    inside = (freqs >= l_freq) & (freqs <= h_freq)
    return freqs[inside], 10 * np.log10(ours.mean(axis=0)[inside] / theirs.mean(axis=0)[inside])


def band_powers(windows: np.ndarray, sfreq: float, bands: Sequence[Band]) -> np.ndarray:
    """Return the power of each window in each band, array of shape (windows, channels, bands) in uV^2."""
    freqs, spectra = window_spectra(windows, sfreq)
    width = freqs[1] - freqs[0]
    return np.stack(
        [spectra[..., (freqs >= low) & (freqs < high)].sum(axis=-1) * width for low, high in bands], axis=-1
    )


def nearest_distances(queries: np.ndarray, references: np.ndarray, at_once: int = 64) -> np.ndarray:
    """Return the distance of each query to its nearest reference.

    The distance is the root mean squared difference over channels and time.

    Parameters
    ----------
    queries, references : array of shape (windows, ...)
        In the same unit, such as uV.
    at_once : int
        Queries compared at a time, which limits memory.

    Returns
    -------
    distances : array of shape (queries,)
        In the unit of the windows.
    """
    flat = np.asarray(references, np.float64).reshape(len(references), -1)
    squares = (flat**2).sum(axis=1)
    found = []
    for start in range(0, len(queries), at_once):
        part = np.asarray(queries[start : start + at_once], np.float64).reshape(-1, flat.shape[1])
        nearest = (squares - 2 * part @ flat.T).argmin(axis=1)
        found.append(np.sqrt(((part - flat[nearest]) ** 2).mean(axis=1)))  # the expansion above loses digits
    return np.concatenate(found)


def most_alike_tokens(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return, for each query, the largest fraction of tokens that equal those of one reference at the same position.

    1 means that the query is a copy of a reference.
    """
    queries, references = np.asarray(queries), np.asarray(references)
    return np.array([(references == query).mean(axis=1).max() for query in queries])


class PowerClassifier:
    """Linear discriminant analysis on the log band power of each channel.

    Parameters
    ----------
    sfreq : float
        Sampling frequency in Hz.
    bands : sequence of (l_freq, h_freq)
        In Hz; by default alpha and beta, which change with movement.
    """

    def __init__(self, sfreq: float, bands: Sequence[Band] = ((8.0, 13.0), (13.0, 30.0))) -> None:
        self.sfreq, self.bands = sfreq, tuple(bands)

    def fit(self, windows: np.ndarray, classes: Sequence[str]) -> PowerClassifier:
        """Fit and return this classifier.

        Parameters
        ----------
        windows : array of shape (windows, channels, time)
            Real windows, in uV.
        classes : sequence of str
            Class of each window.
        """
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        # Equal priors: otherwise the classifier would prefer the most frequent class.
        share = np.full(len(set(classes)), 1 / len(set(classes)))
        self.model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=share)
        self.model.fit(self._features(windows), np.asarray(classes))
        return self

    def says(self, windows: np.ndarray) -> np.ndarray:
        """Return the predicted class of each window."""
        return self.model.predict(self._features(windows))

    def accuracy(self, windows: np.ndarray, classes: Sequence[str]) -> float:
        """Return the balanced accuracy on windows of shape (windows, channels, time) in uV."""
        return balanced_accuracy(self.says(windows), classes)

    def _features(self, windows: np.ndarray) -> np.ndarray:
        return np.log(band_powers(windows, self.sfreq, self.bands) + 1e-6).reshape(len(windows), -1)


def balanced_accuracy(said: Sequence[str], classes: Sequence[str]) -> float:
    """Return the balanced accuracy: the mean recall over classes. Chance level is 1 divided by their number.

    Parameters
    ----------
    said, classes : sequence of str
        Predicted and true class of each window.
    """
    said, classes = np.asarray(said), np.asarray(classes)
    return float(np.mean([(said[classes == name] == name).mean() for name in np.unique(classes)]))


def chance_accuracies(said: Sequence[str], classes: Sequence[str], draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Return the balanced accuracies with permuted labels, array of shape (draws,): the distribution under chance.

    Parameters
    ----------
    said, classes : sequence of str
        Predicted and true class of each window.
    draws : int
        Number of permutations.
    seed : int
        Seed of the permutations.
    """
    order = np.random.default_rng(seed)
    return np.array([balanced_accuracy(said, order.permutation(np.asarray(classes))) for _ in range(draws)])


def score_rows(scores: dict[str, float]) -> list[dict[str, Any]]:
    """Return the scores of `judge` as rows with name, value, unit, baseline and baseline_is."""
    half, nearest = "held-out windows against training windows", "held-out windows to training windows"
    rows = [
        ("spectrum_gap_max", "dB", "spectrum_gap_max_real", half),
        ("spectrum_gap_mean", "dB", "spectrum_gap_mean_real", half),
        ("spectrum_gap_max_decoder_alone", "dB", "spectrum_gap_max_real", half),
        ("class_accuracy_generated", "1", "class_accuracy_permuted", "same predictions, labels permuted"),
        ("class_accuracy_decoder_alone", "1", "class_accuracy_permuted", "same predictions, labels permuted"),
        (
            "class_p_value_decoder_alone",
            "1",
            "class_p_value_level",
            "significance level; a value below it is above chance",
        ),
        ("class_accuracy_held_out", "1", "class_accuracy_permuted", "same predictions, labels permuted"),
        ("class_p_value", "1", "class_p_value_level", "significance level; a value below it is above chance"),
        ("nearest_distance", "uV", "nearest_distance_real", nearest),
        ("tokens_alike_most", "1", "tokens_alike_most_real", nearest),
    ]
    made = [
        {"name": name, "value": scores[name], "unit": unit, "baseline": scores[beside], "baseline_is": words}
        for name, unit, beside, words in rows
    ]
    if "spectrum_gap_max_as_trained" in scores:  # with the missing power that the tokenizer training measured
        gap = {"name": "spectrum_gap_max_as_trained", "value": scores["spectrum_gap_max_as_trained"], "unit": "dB"}
        made.append({**gap, "baseline": 3.0, "baseline_is": "largest accepted gap"})
    return made


def judge(
    *,
    generated: np.ndarray,
    decoder_alone: np.ndarray,
    asked: Sequence[str],
    tokens: np.ndarray,
    train: np.ndarray,
    train_classes: Sequence[str],
    train_tokens: np.ndarray,
    held_out: np.ndarray,
    held_out_classes: Sequence[str],
    held_out_tokens: np.ndarray,
    sfreq: float,
) -> dict[str, float]:
    """Compute the scores of generated windows against real windows.

    Parameters
    ----------
    generated, decoder_alone : array of shape (windows, channels, time)
        Generated windows with the missing power added, and as the decoder returns them; in uV.
    asked : sequence of str
        Class for which each window was generated.
    tokens : array of shape (windows, tokens)
        Tokens of the generated windows.
    train, held_out : array of shape (windows, channels, time)
        Real windows, in uV.
    train_classes, held_out_classes : sequence of str
        Classes of the real windows; the classifier ignores windows without a class ("").
    train_tokens, held_out_tokens : array of shape (windows, tokens)
        Tokens of the real windows.
    sfreq : float
        Sampling frequency in Hz.

    Returns
    -------
    scores : dict
        Scores with the names used by `score_rows`. Spectrum gaps are absolute, from 1 to 40 Hz, against all real
        windows. The classifier is fitted to training windows. Distances are medians and token matches are maxima, both
        against training windows.
    """
    everything = np.concatenate([train, held_out])
    gap = np.abs(spectrum_gap(generated, everything, sfreq)[1])
    alone = np.abs(spectrum_gap(decoder_alone, everything, sfreq)[1])
    real = np.abs(spectrum_gap(held_out, train, sfreq)[1])
    train_classes, held_out_classes = np.asarray(train_classes), np.asarray(held_out_classes)
    known, told = train_classes != "", held_out_classes != ""
    classifier = PowerClassifier(sfreq).fit(train[known], train_classes[known])
    said = classifier.says(generated)
    chance = chance_accuracies(said, asked)
    accuracy = balanced_accuracy(said, asked)
    said_alone = classifier.says(decoder_alone)
    accuracy_alone, chance_alone = balanced_accuracy(said_alone, asked), chance_accuracies(said_alone, asked)
    return {
        "spectrum_gap_max": float(gap.max()),
        "spectrum_gap_mean": float(gap.mean()),
        "spectrum_gap_max_decoder_alone": float(alone.max()),
        "spectrum_gap_max_real": float(real.max()),
        "spectrum_gap_mean_real": float(real.mean()),
        "class_accuracy_generated": accuracy,
        "class_accuracy_decoder_alone": accuracy_alone,
        "class_accuracy_held_out": classifier.accuracy(held_out[told], held_out_classes[told]),
        "class_accuracy_permuted": float(chance.mean()),
        "class_p_value": float((1 + (chance >= accuracy).sum()) / (1 + len(chance))),
        "class_p_value_decoder_alone": float((1 + (chance_alone >= accuracy_alone).sum()) / (1 + len(chance_alone))),
        "class_p_value_level": 0.05,
        "nearest_distance": float(np.median(nearest_distances(generated, train))),
        "nearest_distance_real": float(np.median(nearest_distances(held_out, train))),
        "tokens_alike_most": float(most_alike_tokens(tokens, train_tokens).max()),
        "tokens_alike_most_real": float(most_alike_tokens(held_out_tokens, train_tokens).max()),
    }
