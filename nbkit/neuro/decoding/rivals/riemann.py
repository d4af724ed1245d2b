"""Riemannian baselines: covariances of windows in the tangent space of their mean, with a linear model.

- `filter_bank`: covariances in several bands (Barachant et al. 2012), for rhythms: rest and tasks, movement, sleep.
- `xdawn`: covariances of xDAWN-filtered responses and their class means (Rivet et al. 2009), for windows that begin at
  an event.

All matrices are pyriemann's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from nbkit.neuro.decoding.folds import check_windows
from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, effective_bands

_SHRINK = 0.05  # of a covariance towards equal, uncorrelated channels
# The log-Euclidean mean as the reference point is found in one step, and tangent vectors hardly depend on the point.
_METRIC = {"mean": "logeuclid", "map": "riemann"}


class BandCovariances(TransformerMixin, BaseEstimator):
    """Turn windows into tangent vectors of their covariance in each band, one after the other.

    Parameters
    ----------
    sfreq : float
        Sampling frequency, in Hz.
    bands : sequence of (l_freq, h_freq)
        Band edges, in Hz; those above half the sampling frequency are left out.
    """

    def __init__(self, sfreq: float = 200.0, bands: Sequence[Band] = DEFAULT_BANDS) -> None:
        self.sfreq = sfreq
        self.bands = bands

    def fit(self, X: np.ndarray, y: Any = None) -> BandCovariances:
        """Compute the mean covariance of each band and return self."""
        self._fitted(X)
        return self

    def fit_transform(self, X: np.ndarray, y: Any = None) -> np.ndarray:
        """Fit and return the tangent vectors; covariances are computed once."""
        return self._vectors(self._fitted(X))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return tangent vectors, shape (windows, bands * channels * (channels + 1) / 2)."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "spaces_")
        return self._vectors(band_covariances(check_windows(X), self.sfreq, self.bands))

    def _fitted(self, X: np.ndarray) -> list[np.ndarray]:
        from pyriemann.tangentspace import TangentSpace

        matrices = band_covariances(check_windows(X), self.sfreq, self.bands)
        self.spaces_ = [TangentSpace(metric=_METRIC).fit(of_band) for of_band in matrices]
        return matrices

    def _vectors(self, matrices: list[np.ndarray]) -> np.ndarray:
        pairs = zip(self.spaces_, matrices, strict=True)
        return np.concatenate([space.transform(of_band) for space, of_band in pairs], axis=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


def band_covariances(windows: np.ndarray, sfreq: float, bands: Sequence[Band] = DEFAULT_BANDS) -> list[np.ndarray]:
    """Return the covariance of each window in each band, each of shape (windows, channels, channels).

    It is the real part of the cross-spectra of the tapered window, summed over the band; this is what a filter bank
    gives, at a tenth of its time. A twentieth of the mean power is added to the diagonal, so that it is invertible for
    narrow bands, short windows and re-referenced channels too.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
    sfreq : float
        In Hz.
    bands : sequence of (l_freq, h_freq)
        In Hz.
    """
    from scipy.signal.windows import hann

    length, chans = windows.shape[-1], windows.shape[1]
    spectra = np.fft.rfft((windows - windows.mean(-1, keepdims=True)) * hann(length), axis=-1)
    freqs = np.fft.rfftfreq(length, 1 / sfreq)
    found = []
    for low, high in effective_bands(bands, sfreq):
        part = spectra[..., (freqs >= low) & (freqs < high)]
        matrices = (part @ part.conj().swapaxes(1, 2)).real / length**2
        power = np.trace(matrices, axis1=1, axis2=2)[:, None, None] / chans
        found.append((1 - _SHRINK) * matrices + (_SHRINK * power + 1e-12) * np.eye(chans))
    return found


def filter_bank(task: str, sfreq: float) -> Any:
    """Return tangent vectors of covariances in bands, with the linear model of `bandpower.linear_model`."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from nbkit.neuro.decoding.rivals.bandpower import linear_model

    return make_pipeline(BandCovariances(sfreq), StandardScaler(), linear_model(task))


def xdawn(task: str, sfreq: float) -> Any:
    """Return xDAWN covariances in their tangent space, with a linear model.

    Raises
    ------
    ValueError
        If the task is a regression, for which xDAWN has no meaning.
    """
    from pyriemann.estimation import XdawnCovariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    from nbkit.neuro.decoding.rivals.bandpower import linear_model

    if task != "classification":
        raise ValueError(f"The baseline xdawn needs classes, and the task is a {task}; leave it out of rivals.")
    as_float = FunctionTransformer(np.asarray, kw_args={"dtype": float})
    return make_pipeline(
        as_float,
        XdawnCovariances(nfilter=4, estimator="oas"),
        TangentSpace(metric=_METRIC),
        StandardScaler(),
        linear_model(task),
    )
