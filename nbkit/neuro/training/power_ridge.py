"""Ridge regression on log band powers: a baseline for networks on EEG windows.

The penalty is chosen on the training windows alone, by cross-validation over their subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, effective_bands

ALPHAS = tuple(10.0**power for power in range(-1, 7))
_FLOOR_UV2 = 1e-3  # 0.03 uV, far below any amplifier's noise: a flat channel gives a constant, not minus infinity


def log_band_powers(windows: np.ndarray, sfreq: float, bands: Sequence[Band] = DEFAULT_BANDS) -> np.ndarray:
    """Return the log10 power of each channel in each band.

    Parameters
    ----------
    windows : array of shape (windows, channels, time)
        In uV.
    sfreq : float
        Sampling frequency, in Hz.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz; upper edges are limited to 0.49 of ``sfreq``.

    Returns
    -------
    powers : array of shape (windows, channels * bands)
        In log10 of uV^2; a flat channel has the same value in every band.
    """
    windows = np.asarray(windows, dtype=np.float64)
    n_times = windows.shape[-1]
    taper = np.hanning(n_times)
    spectrum = np.abs(np.fft.rfft((windows - windows.mean(-1, keepdims=True)) * taper)) ** 2
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    scale = 2 / (n_times * (taper**2).sum())  # a sinusoid of amplitude a has power a^2 / 2
    powers = []
    for low, high in effective_bands(bands, sfreq):
        inside = (freqs >= low) & (freqs < high)
        powers.append(spectrum[..., inside].sum(-1) * scale)
    return np.log10(np.stack(powers, -1) + _FLOOR_UV2).reshape(len(windows), -1)


def powers_on_crops(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return `log_band_powers` of the training and the test windows of `WindowData`, at the crops that are scored.

    Bands that the sampling rate does not reach are left out.
    """
    from torch.utils.data import DataLoader

    bands = [band for band in DEFAULT_BANDS if band[0] < 0.49 * data.sfreq]

    loaders = (DataLoader(data.batched(side), 256) for side in (data.train_dataset, data.test_dataset))
    first, second = (
        np.concatenate([log_band_powers(batch["window"].numpy(), data.sfreq, bands) for batch in loader])
        for loader in loaders
    )
    return first, second


class PowerRidge:
    """Ridge regression on standardised log band powers; the penalty is chosen by cross-validation over subjects.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    folds : int
        Number of folds for the choice of the penalty; reduced to the number of subjects if that is smaller.
    """

    def __init__(self, alphas: Sequence[float] = ALPHAS, folds: int = 5) -> None:
        self.alphas, self.folds = tuple(alphas), folds
        self.model: Any = None

    def fit(self, powers: np.ndarray, target: np.ndarray, subjects: Sequence[str]) -> PowerRidge:
        """Fit the regression and choose its penalty on training windows, and return self.

        Parameters
        ----------
        powers : array of shape (windows, features)
        target : array of shape (windows,)
        subjects : sequence of str
            Subject of each window; a subject is never on both sides of a fold.
        """
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import GroupKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        groups = np.unique(np.asarray(subjects), return_inverse=True)[1]
        folds = list(GroupKFold(min(self.folds, groups.max() + 1)).split(powers, target, groups))
        self.model = make_pipeline(
            StandardScaler(), RidgeCV(list(self.alphas), cv=folds, scoring="neg_root_mean_squared_error")
        )
        self.model.fit(powers, target)
        return self

    def predict(self, powers: np.ndarray) -> np.ndarray:
        """Return the predictions, of shape (windows,), in the target's unit."""
        if self.model is None:
            raise ValueError("This ridge is not fitted; call fit with training windows first.")
        return self.model.predict(powers)

    @property
    def alpha(self) -> float:
        """Penalty that was chosen."""
        return float(self.model[-1].alpha_)
