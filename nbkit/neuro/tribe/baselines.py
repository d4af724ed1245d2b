"""Baselines for the student: the mean response, and ridge regression on lagged features.

Most encoding models are ridge regressions on delayed features (Huth et al., 2016; voxelwise tutorials of the Gallant
lab). sklearn's RidgeCV chooses the regularisation within the training runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.tribe.evaluate import Predictor
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.student.fusion import MODALITIES

_ALPHAS = tuple(10.0**power for power in range(-1, 7))


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


def ridge_predictor(
    runs: Sequence[StimulusRun], target: str = "bold", lags: int = 8, components: int = 60
) -> Predictor:
    """Fit one ridge regression on lagged features for all subjects.

    Parameters
    ----------
    runs : sequence of StimulusRun
        Training runs.
    target : {"bold", "teacher"}
    lags : int
        Steps of the input, the current one included, as many as in the student's haemodynamic layer.
    components : int
        Principal components per modality, to bound memory.

    Returns
    -------
    predictor : callable
        Maps a run to predictions of shape (steps, outputs).
    """
    from sklearn.linear_model import RidgeCV

    reduce = _components(runs, components)
    x = np.concatenate([lagged(reduce(run), lags)[_valid(run, target)] for run in runs])
    y = np.concatenate([getattr(run, target)[_valid(run, target)] for run in runs])
    model = RidgeCV(_ALPHAS).fit(x, y)
    return lambda run: model.predict(lagged(reduce(run), lags)).astype(np.float32)


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


def _valid(run: StimulusRun, target: str) -> Any:
    return run.teacher_valid if target == "teacher" else slice(None)


def _components(runs: Sequence[StimulusRun], count: int) -> Any:
    """Return a function that reduces a run's features to a few principal components per modality, equally scaled."""
    from sklearn.decomposition import PCA

    fitted = []
    for modality in MODALITIES:
        values = np.concatenate([run.features[modality] for run in runs]).astype(np.float32)
        fitted.append(PCA(min(count, *values.shape), whiten=False, random_state=0).fit(values))
    scale = [np.sqrt(one.explained_variance_[0]) + 1e-9 for one in fitted]

    def reduce(run: StimulusRun) -> np.ndarray:
        parts = [
            one.transform(run.features[m].astype(np.float32)) / size
            for m, one, size in zip(MODALITIES, fitted, scale, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    return reduce
