"""Normalise windows to the scale of each model's pretraining data.

Input is in microvolts. Each window is normalised by itself, so that no information passes between windows. The recipes
are those of the models' own code, as collected by OpenEEGBench.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_TINY = 1e-8
# Range (maximum minus minimum) of BENDR's pretraining data, in uV; SCALE is a window's range relative to it.
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
        "average reference, then each channel minus its mean, divided by its standard deviation",
    ),
    "channel_z": (_channel_z, "each channel minus its mean, divided by its standard deviation"),
    "channel_z_15": (_channel_z_15, "each channel minus its mean, divided by its standard deviation, clipped at 15"),
    "hundredth": (_hundredth, "in units of 100 uV"),
    "microvolt": (_microvolt, "in uV, not scaled"),
    "min_max_scale": (
        _min_max_scale,
        "each window scaled to -1 to 1 over all its channels, with its range as an additional channel SCALE",
    ),
    "percentile_95": (_percentile_95, "each channel divided by the 95th percentile of its absolute values"),
}


def normalise(windows: np.ndarray, recipe: str) -> tuple[np.ndarray, str]:
    """Normalise windows for a model, and return them with a description.

    Parameters
    ----------
    windows : ndarray of shape (windows, channels, time)
        In uV.
    recipe : str

    Returns
    -------
    scaled : ndarray of shape (windows, channels, time)
        With the additional channel SCALE for ``min_max_scale``.
    said : str
        Description of the normalisation.

    Raises
    ------
    ValueError
        If the recipe is unknown.
    """
    if recipe not in _RECIPES:
        raise ValueError(f"There is no normalisation {recipe!r}; there are: {', '.join(_RECIPES)}.")
    scale, said = _RECIPES[recipe]
    return scale(windows), said
