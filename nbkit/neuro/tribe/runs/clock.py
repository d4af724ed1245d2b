"""Common time grid of features, teacher and fMRI: step k is at k times the step length after the stimulus began.

Features have a rate of 2 Hz; a grid step gets their mean over its length. fMRI volume k was measured at k * tr and
defines the grid. `nbkit.neuro.signals.imaging.bold.teacher_on_clock` resamples the teacher's rows.
"""

from __future__ import annotations

import numpy as np


def grid_steps(duration_s: float, step_s: float) -> int:
    """Return the number of whole steps of a stimulus; at least one."""
    return max(1, int(duration_s / step_s + 1e-6))


def features_on_grid(features: np.ndarray, sfreq: float, step_s: float, n_steps: int) -> np.ndarray:
    """Average features over each step of a grid.

    Step k covers ``step_s`` around ``k * step_s``; feature i covers i to i + 1, divided by ``sfreq``. On the features'
    own grid they do not change.

    Parameters
    ----------
    features : ndarray of shape (steps, dim)
    sfreq, step_s : float
        Rate of the features, in Hz, and step of the grid, in s.
    n_steps : int
        Steps of the grid; steps after the end repeat the last feature.

    Returns
    -------
    on_grid : float32 array of shape (n_steps, dim)
    """
    features = np.asarray(features, np.float32)
    if abs(step_s * sfreq - 1) < 1e-9:
        short = max(0, n_steps - len(features))
        return np.pad(features[:n_steps], ((0, short), (0, 0)), mode="edge")
    total = np.concatenate([np.zeros((1, features.shape[1])), features.cumsum(axis=0, dtype=np.float64)])
    middle = np.arange(n_steps) * step_s
    begin, end = (np.clip((middle + half * step_s) * sfreq, 0, len(features)) for half in (-0.5, 0.5))
    begin = np.minimum(begin, len(features) - 1e-3)  # a step after the end repeats the last feature
    end = np.maximum(end, begin + 1e-3)
    return ((_at(total, end) - _at(total, begin)) / (end - begin)[:, None]).astype(np.float32)


def _at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Interpolate linearly between rows."""
    below = np.clip(np.floor(place).astype(int), 0, max(0, len(values) - 2))
    above = np.minimum(below + 1, len(values) - 1)
    part = (place - below)[:, None]
    return values[below] * (1 - part) + values[above] * part
