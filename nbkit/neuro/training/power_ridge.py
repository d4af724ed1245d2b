"""Ridge regression on log band powers: the baseline that any network on EEG windows has to beat.

The penalty is chosen on the training windows alone, on held-out subjects among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, effective_bands
from nbkit.neuro.signals.windows.shards import WindowShards

ALPHAS = tuple(10.0**power for power in range(-1, 7))
_AT_ONCE = 512  # windows in memory
_FLOOR_UV2 = 1e-3  # 0.03 uV: far below any amplifier's noise, so a flat channel is a constant and not minus infinity


def log_band_powers(windows: np.ndarray, sfreq: float, bands: Sequence[Band] = DEFAULT_BANDS) -> np.ndarray:
    """Return the log10 power of each channel in each band.

    Parameters
    ----------
    windows : array of shape (windows, channels, time)
        In uV.
    sfreq : float
        Samples a second, in Hz.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz; upper ones are held to 0.49 of ``sfreq``.

    Returns
    -------
    powers : array of shape (windows, channels * bands)
        In log10 of uV^2; a flat channel has the same value everywhere.
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


def band_power_features(
    shards: WindowShards, bands: Sequence[Band] = DEFAULT_BANDS, crop: int | None = None
) -> np.ndarray:
    """Return `log_band_powers` of all windows of a set, some at a time; ``crop`` keeps the first so many samples."""
    parts = []
    for begin in range(0, len(shards), _AT_ONCE):
        part = shards.subset(np.arange(begin, min(begin + _AT_ONCE, len(shards)))).stack()
        parts.append(log_band_powers(part[..., :crop], shards.sfreq, bands))
    return np.concatenate(parts)


class PowerRidge:
    """Standardise log band powers and regress on them; the penalty by cross-validation over subjects.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    folds : int
        Of the choice; at most the number of subjects.
    """

    def __init__(self, alphas: Sequence[float] = ALPHAS, folds: int = 5) -> None:
        self.alphas, self.folds = tuple(alphas), folds
        self.model: Any = None

    def fit(self, powers: np.ndarray, target: np.ndarray, subjects: Sequence[str]) -> PowerRidge:
        """Fit on training windows.

        Parameters
        ----------
        powers : array of shape (windows, features)
        target : array of shape (windows,)
        subjects : sequence of str
            One a window; a subject is never on both sides of a fold.
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
            raise ValueError("This ridge was not fitted; call fit with training windows first.")
        return self.model.predict(powers)

    @property
    def alpha(self) -> float:
        """The penalty chosen."""
        return float(self.model[-1].alpha_)


def ridge_predictions(
    train: WindowShards, test: WindowShards, column: str = "target", crop: int | None = None
) -> np.ndarray:
    """Fit on one set of windows and give the predictions for another, of shape (windows,)."""
    ridge = PowerRidge().fit(band_power_features(train, crop=crop), train.column(column).astype(float), train.subjects)
    return ridge.predict(band_power_features(test, crop=crop))


def crossed_predictions(shards: WindowShards, column: str = "target", folds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Predict every window by a ridge, and by a constant, that never saw its subject.

    For small data sets, where one test side has too few subjects to say much.

    Returns
    -------
    ridge, constant : array of shape (windows,)
        The constant is the training windows' mean, fold by fold.
    """
    from sklearn.model_selection import GroupKFold

    powers, target = band_power_features(shards), shards.column(column).astype(float)
    subjects = shards.subjects
    ridge, constant = np.empty(len(target)), np.empty(len(target))
    for train, test in GroupKFold(folds).split(powers, target, subjects):
        ridge[test] = PowerRidge().fit(powers[train], target[train], subjects[train]).predict(powers[test])
        constant[test] = target[train].mean()
    return ridge, constant
