"""Baseline for foundation models: band powers and a linear model.

Everything is fitted on the training side alone, with the same folds, windows and scores as the foundation models, so
that the results can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from nbkit.neuro.decoding.folds import check_windows
from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band
from nbkit.neuro.training.power_ridge import log_band_powers

_MANY = 16  # with fewer channels their mean is mostly signal, not a reference


class BandPower(TransformerMixin, BaseEstimator):
    """Turn windows into the log10 power of each channel in each band.

    Parameters
    ----------
    sfreq : float
        Sampling frequency, in Hz.
    bands : sequence of (l_freq, h_freq)
        Band edges, in Hz.
    reference : {"auto", "average", "both", None}
        "average" re-references to the channels' mean; "both" gives the powers with the mean and without it; "auto" is
        the average with 16 or more channels.
    """

    def __init__(
        self, sfreq: float = 200.0, bands: Sequence[Band] = DEFAULT_BANDS, reference: str | None = "auto"
    ) -> None:
        self.sfreq = sfreq
        self.bands = bands
        self.reference = reference

    def fit(self, X: np.ndarray, y: Any = None) -> BandPower:
        """Store the number of channels and return self; nothing else is learned."""
        if self.reference not in ("auto", "average", "both", None):
            raise ValueError(
                f"There is no reference {self.reference!r}; choose one of 'auto', 'average', 'both', None."
            )
        self.n_chans_ = check_windows(X).shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the log band powers of windows.

        Parameters
        ----------
        X : ndarray of shape (windows, channels, time)
            In uV.

        Returns
        -------
        powers : ndarray of shape (windows, channels * bands)
            In log10 of uV^2; twice as many features with both references.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "n_chans_")
        windows = check_windows(X)
        if windows.shape[1] != self.n_chans_:
            raise ValueError(
                f"Got windows of {windows.shape[1]} channels; fitted on {self.n_chans_}. Pass the same channels."
            )
        many, centred = self.n_chans_ >= _MANY, windows - windows.mean(1, keepdims=True)
        if self.reference == "both" and many:
            parts = [log_band_powers(these, self.sfreq, self.bands) for these in (centred, windows)]
            return np.concatenate(parts, axis=1)
        if self.reference == "average" or (self.reference == "auto" and many):
            windows = centred
        return log_band_powers(windows, self.sfreq, self.bands)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


def band_power_model(task: str, sfreq: float) -> Any:
    """Return the baseline: linear discriminant analysis with shrinkage, or ridge regression, on log band powers.

    For classes the powers are taken with the common average reference and without it, because which is better depends
    on the recording: by leave-one-out on real recordings, balanced accuracy 0.74 (0.68 and 0.70 with one of them) for
    arithmetic of 36 people, and 0.76 (0.79 and 0.71) for movement of one.

    Parameters
    ----------
    task : {"classification", "regression"}
    sfreq : float
        In Hz.

    Returns
    -------
    model : sklearn Pipeline
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task == "classification":
        return make_pipeline(
            BandPower(sfreq, reference="both"), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        )
    return make_pipeline(BandPower(sfreq), StandardScaler(), linear_model(task))


def linear_model(task: str) -> Any:
    """Return the linear model that is used on frozen embeddings, and for values on band powers, too."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    if task == "classification":
        return LogisticRegression(max_iter=2000, class_weight="balanced")
    return RidgeCV(alphas=10.0 ** np.arange(-1, 7))
