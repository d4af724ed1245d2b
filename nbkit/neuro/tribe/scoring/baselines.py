"""The mean response, whose correlation is 0, and the delays of features that ridge regression needs.

Most encoding models are ridge regressions on delayed features (Huth et al., 2016); see `banded_predictor`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.scoring.evaluate import Predictor


def mean_predictor(runs: Sequence[StimulusRun], target: str = "bold") -> Predictor:
    """Return a predictor of the training runs' mean response; its correlation is 0 by convention.

    Parameters
    ----------
    runs : sequence of StimulusRun
        Training runs.
    target : {"bold", "teacher"}

    Returns
    -------
    predictor : callable
        Maps a run to predictions of shape (steps, outputs).
    """
    total = sum(getattr(run, target).sum(0, dtype=np.float64) for run in runs)
    mean = total / sum(len(run) for run in runs)
    return lambda run: np.tile(mean, (len(run), 1))


def lagged(features: np.ndarray, lags: int) -> np.ndarray:
    """Concatenate the features of the current and previous steps; before the start they are zero.

    Parameters
    ----------
    features : ndarray of shape (steps, dim)
    lags : int
        Number of steps; 1 means only the current one.

    Returns
    -------
    wide : ndarray of shape (steps, lags * dim)
        Lag 0 comes first.
    """
    return np.concatenate([np.pad(features, ((lag, 0), (0, 0)))[: len(features)] for lag in range(lags)], axis=1)
