"""The scale each model's pretraining data had.

From microvolts, for each window by itself, so that no window knows of another. The recipes are those of the models'
own code, as OpenEEGBench collects them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_TINY = 1e-8
# Largest less smallest value of BENDR's pretraining data, in uV: SCALE is a window's range as a part of it.
BENDR_RANGE_UV = 3276.7 + 1583.9258304722666


def _microvolt(windows: np.ndarray) -> np.ndarray:
    return windows


def _hundredth(windows: np.ndarray) -> np.ndarray:
    return windows / 100


def _percentile_95(windows: np.ndarray) -> np.ndarray:
    return windows / (np.quantile(np.abs(windows), 0.95, axis=-1, keepdims=True) + _TINY)


def _channel_z(windows: np.ndarray) -> np.ndarray:
    centred = windows - windows.mean(-1, keepdims=True)
    return centred / (centred.std(-1, keepdims=True) + _TINY)


def _channel_z_15(windows: np.ndarray) -> np.ndarray:
    return np.clip(_channel_z(windows), -15, 15)


def _average_z(windows: np.ndarray) -> np.ndarray:
    return _channel_z(windows - windows.mean(1, keepdims=True))


def _min_max_scale(windows: np.ndarray) -> np.ndarray:
    low, high = windows.min((1, 2), keepdims=True), windows.max((1, 2), keepdims=True)
    scaled = 2 * (windows - low) / (high - low + _TINY) - 1
    scale = 2 * np.minimum((high - low) / BENDR_RANGE_UV, 1) - 1
    return np.concatenate([scaled, np.broadcast_to(scale, (len(windows), 1, windows.shape[-1]))], axis=1)


_RECIPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "average_z": (
        _average_z,
        "against the average of all channels, then each channel less its mean, over its standard deviation",
    ),
    "channel_z": (_channel_z, "each channel less its mean, over its standard deviation"),
    "channel_z_15": (_channel_z_15, "each channel less its mean, over its standard deviation, cut at 15 of them"),
    "hundredth": (_hundredth, "in units of 100 uV"),
    "microvolt": (_microvolt, "in uV, as they are"),
    "min_max_scale": (
        _min_max_scale,
        "each window from -1 to 1 over all its channels, and its range as a channel SCALE more",
    ),
    "percentile_95": (_percentile_95, "each channel over the 95th percentile of its absolute values"),
}


def normalise(windows: np.ndarray, recipe: str) -> tuple[np.ndarray, str]:
    """Bring windows to the scale a model knows, and say how.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
        In uV.
    recipe : str

    Returns
    -------
    scaled : ndarray of shape (windows, channels, time)
        With one channel more, SCALE, for ``min_max_scale``.
    said : str

    Raises
    ------
    ValueError
        If there is no such recipe.
    """
    if recipe not in _RECIPES:
        raise ValueError(f"There is no normalisation {recipe!r}; there are: {', '.join(_RECIPES)}.")
    scale, said = _RECIPES[recipe]
    return scale(windows), said
