"""One clock for features, teacher and fMRI: step k of a grid stands for k times its length after the stimulus began.

Features lie at 2 Hz and a grid step gets their mean over its own length; fMRI volume k was measured at k * tr and is
the grid; `nbkit.neuro.signals.imaging.bold.teacher_on_clock` puts a teacher's rows there.
"""

from __future__ import annotations

import numpy as np


def grid_steps(duration_s: float, step_s: float) -> int:
    """Return the whole steps that a stimulus has; at least one."""
    return max(1, int(duration_s / step_s + 1e-6))


def features_on_grid(features: np.ndarray, sfreq: float, step_s: float, n_steps: int) -> np.ndarray:
    """Return the mean of features over each step of a grid.

    Step k is the stretch of ``step_s`` around ``k * step_s``; feature i holds from i to i + 1 over ``sfreq``. On the
    features' own grid they stay what they are.

    Parameters
    ----------
    features : ndarray of shape (steps, dim)
    sfreq, step_s : float
        In Hz and s.
    n_steps : int

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
    begin = np.minimum(begin, len(features) - 1e-3)  # a step after the end holds the last feature
    end = np.maximum(end, begin + 1e-3)
    return ((_at(total, end) - _at(total, begin)) / (end - begin)[:, None]).astype(np.float32)


def _at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Rows between rows, by a straight line."""
    below = np.clip(np.floor(place).astype(int), 0, max(0, len(values) - 2))
    above = np.minimum(below + 1, len(values) - 1)
    part = (place - below)[:, None]
    return values[below] * (1 - part) + values[above] * part
