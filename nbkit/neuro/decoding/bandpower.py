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
    reference : {"auto", "average", None}
        "average" re-references to the channels' mean; "auto" does so with 16 or more channels.
    """

    def __init__(
        self, sfreq: float = 200.0, bands: Sequence[Band] = DEFAULT_BANDS, reference: str | None = "auto"
    ) -> None:
        self.sfreq = sfreq
        self.bands = bands
        self.reference = reference

    def fit(self, X: np.ndarray, y: Any = None) -> BandPower:
        """Store the number of channels and return self; nothing else is learned."""
        if self.reference not in ("auto", "average", None):
            raise ValueError(f"There is no reference {self.reference!r}; choose one of 'auto', 'average', None.")
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
            In log10 of uV^2.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "n_chans_")
        windows = check_windows(X)
        if windows.shape[1] != self.n_chans_:
            raise ValueError(
                f"Got windows of {windows.shape[1]} channels; fitted on {self.n_chans_}. Pass the same channels."
            )
        if self.reference == "average" or (self.reference == "auto" and self.n_chans_ >= _MANY):
            windows = windows - windows.mean(1, keepdims=True)
        return log_band_powers(windows, self.sfreq, self.bands)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


def band_power_model(task: str, sfreq: float) -> Any:
    """Return the baseline: logistic or ridge regression on standardised log band powers.

    Parameters
    ----------
    task : {"classification", "regression"}
    sfreq : float
        In Hz.

    Returns
    -------
    model : sklearn Pipeline
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(BandPower(sfreq), StandardScaler(), linear_model(task))


def linear_model(task: str) -> Any:
    """Return the linear model that is used on both band powers and frozen embeddings."""
    from sklearn.linear_model import LogisticRegression, RidgeCV

    if task == "classification":
        return LogisticRegression(max_iter=2000, class_weight="balanced")
    return RidgeCV(alphas=10.0 ** np.arange(-1, 7))
