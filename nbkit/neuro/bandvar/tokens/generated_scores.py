"""What generated windows are worth: spectra, copies, and a classifier's verdict.

Every score has its counterpart from real windows beside it: two halves of real data differ, too, and a classifier is no
better on generated windows than it is on real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import Band


def mean_spectrum(windows: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the power spectral density of windows: one hann-windowed segment each, their mean taken off, averaged.

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
    """Return `mean_spectrum` before the mean, density of shape (windows, channels, freqs)."""
    windows = np.asarray(windows, dtype=np.float64)
    steps = windows.shape[-1]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(steps) / steps)
    spectra = np.abs(np.fft.rfft((windows - windows.mean(axis=-1, keepdims=True)) * taper)) ** 2
    spectra /= sfreq * (taper**2).sum()
    spectra[..., 1 : -1 if steps % 2 == 0 else None] *= 2  # the negative frequencies' half
    return np.fft.rfftfreq(steps, 1 / sfreq), spectra


def spectrum_gap(
    generated: np.ndarray, real: np.ndarray, sfreq: float, l_freq: float = 1.0, h_freq: float = 40.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the spectrum of generated windows, averaged over channels, is above that of real ones.

    Returns
    -------
    freqs : array of shape (freqs,)
        From ``l_freq`` to ``h_freq``, in Hz.
    gap : array of shape (freqs,)
        In dB; negative where power is missing.
    """
    freqs, ours = mean_spectrum(generated, sfreq)
    theirs = mean_spectrum(real, sfreq)[1]
    inside = (freqs >= l_freq) & (freqs <= h_freq)
    return freqs[inside], 10 * np.log10(ours.mean(axis=0)[inside] / theirs.mean(axis=0)[inside])


def band_powers(windows: np.ndarray, sfreq: float, bands: Sequence[Band]) -> np.ndarray:
    """Return the power of each window's bands, shape (windows, channels, bands), in uV^2."""
    freqs, spectra = window_spectra(windows, sfreq)
    width = freqs[1] - freqs[0]
    return np.stack(
        [spectra[..., (freqs >= low) & (freqs < high)].sum(axis=-1) * width for low, high in bands], axis=-1
    )


def nearest_distances(queries: np.ndarray, references: np.ndarray, at_once: int = 64) -> np.ndarray:
    """Return each query's distance to its nearest reference: root mean squared difference over channels and time.

    Parameters
    ----------
    queries, references : array of shape (windows, ...)
        In one unit, uV.

    Returns
    -------
    distances : array of shape (queries,)
        In that unit.
    """
    flat = np.asarray(references, np.float64).reshape(len(references), -1)
    squares = (flat**2).sum(axis=1)
    found = []
    for start in range(0, len(queries), at_once):
        part = np.asarray(queries[start : start + at_once], np.float64).reshape(-1, flat.shape[1])
        nearest = (squares - 2 * part @ flat.T).argmin(axis=1)
        found.append(np.sqrt(((part - flat[nearest]) ** 2).mean(axis=1)))  # not from the expansion, which cancels
    return np.concatenate(found)


def most_alike_tokens(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the largest share of a query's tokens that are one reference's, place by place; 1 is a copy."""
    queries, references = np.asarray(queries), np.asarray(references)
    return np.array([(references == query).mean(axis=1).max() for query in queries])


class PowerClassifier:
    """Tell classes from the log power of bands in each channel, by linear discriminant analysis.

    Parameters
    ----------
    sfreq : float
        In Hz.
    bands : sequence of (l_freq, h_freq)
        In Hz; alpha and beta, where movement shows, by default.
    """

    def __init__(self, sfreq: float, bands: Sequence[Band] = ((8.0, 13.0), (13.0, 30.0))) -> None:
        self.sfreq, self.bands = sfreq, tuple(bands)

    def fit(self, windows: np.ndarray, classes: Sequence[str]) -> PowerClassifier:
        """Fit to real windows (windows, channels, time) in uV."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        # equal priors: a class that is frequent is not a guess
        share = np.full(len(set(classes)), 1 / len(set(classes)))
        self.model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=share)
        self.model.fit(self._features(windows), np.asarray(classes))
        return self

    def says(self, windows: np.ndarray) -> np.ndarray:
        """Return the class of each window."""
        return self.model.predict(self._features(windows))

    def accuracy(self, windows: np.ndarray, classes: Sequence[str]) -> float:
        """Return the balanced accuracy: the mean over classes of the share told rightly."""
        return balanced_accuracy(self.says(windows), classes)

    def _features(self, windows: np.ndarray) -> np.ndarray:
        return np.log(band_powers(windows, self.sfreq, self.bands) + 1e-6).reshape(len(windows), -1)


def balanced_accuracy(said: Sequence[str], classes: Sequence[str]) -> float:
    """Return the mean over classes of the share told rightly; chance is one over their number."""
    said, classes = np.asarray(said), np.asarray(classes)
    return float(np.mean([(said[classes == name] == name).mean() for name in np.unique(classes)]))


def chance_accuracies(said: Sequence[str], classes: Sequence[str], draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Return the accuracies of permuted labels, shape (draws,): what there is to be had without knowing."""
    order = np.random.default_rng(seed)
    return np.array([balanced_accuracy(said, order.permutation(np.asarray(classes))) for _ in range(draws)])


def score_rows(scores: dict[str, float]) -> list[dict[str, Any]]:
    """Return `judge`'s scores as rows with name, value, unit, baseline and baseline_is."""
    half, nearest = "held-out real windows against training windows", "held-out real window to training window"
    rows = [
        ("spectrum_gap_max", "dB", "spectrum_gap_max_real", half),
        ("spectrum_gap_mean", "dB", "spectrum_gap_mean_real", half),
        ("spectrum_gap_max_decoder_alone", "dB", "spectrum_gap_max_real", half),
        ("class_accuracy_generated", "1", "class_accuracy_permuted", "the same verdicts, labels permuted"),
        ("class_accuracy_decoder_alone", "1", "class_accuracy_permuted", "the same verdicts, labels permuted"),
        ("class_accuracy_held_out_real", "1", "class_accuracy_permuted", "the same verdicts, labels permuted"),
        ("class_p_value", "1", "class_p_value_level", "the usual level; below it: above chance"),
        ("nearest_distance", "uV", "nearest_distance_real", nearest),
        ("tokens_alike_most", "1", "tokens_alike_most_real", nearest),
    ]
    return [
        {"name": name, "value": scores[name], "unit": unit, "baseline": scores[beside], "baseline_is": words}
        for name, unit, beside, words in rows
    ]


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
    """Score generated windows against real ones.

    Parameters
    ----------
    generated, decoder_alone : array of shape (windows, channels, time)
        With the missing power, and as the decoder's mean has them; in uV.
    asked : sequence of str
        The class each was asked to be.
    tokens : array of shape (windows, tokens)
    train, held_out : array of shape (windows, channels, time)
        Real ones, in uV.
    train_classes, held_out_classes : sequence of str
        Windows without a class ("") take no part in the verdict.
    sfreq : float
        In Hz.

    Returns
    -------
    scores : dict
        As `score_rows` names them. The spectrum's gaps are absolute, from 1 to 40 Hz, against all real windows; the
        classifier is fitted to training windows; distances and tokens are medians and maxima to training windows.
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
    return {
        "spectrum_gap_max": float(gap.max()),
        "spectrum_gap_mean": float(gap.mean()),
        "spectrum_gap_max_decoder_alone": float(alone.max()),
        "spectrum_gap_max_real": float(real.max()),
        "spectrum_gap_mean_real": float(real.mean()),
        "class_accuracy_generated": accuracy,
        "class_accuracy_decoder_alone": classifier.accuracy(decoder_alone, asked),
        "class_accuracy_held_out_real": classifier.accuracy(held_out[told], held_out_classes[told]),
        "class_accuracy_permuted": float(chance.mean()),
        "class_p_value": float((1 + (chance >= accuracy).sum()) / (1 + len(chance))),
        "class_p_value_level": 0.05,
        "nearest_distance": float(np.median(nearest_distances(generated, train))),
        "nearest_distance_real": float(np.median(nearest_distances(held_out, train))),
        "tokens_alike_most": float(most_alike_tokens(tokens, train_tokens).max()),
        "tokens_alike_most_real": float(most_alike_tokens(held_out_tokens, train_tokens).max()),
    }
