"""What costs less than the student: the mean response, and ridge regression on lagged features.

Ridge on delayed features is how most encoding models are made (Huth et al., 2016; the voxelwise tutorials of the
Gallant lab); its strength is chosen by sklearn's RidgeCV within the training runs alone.
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
    """Return what predicts the training runs' mean response at every step; its correlation is 0 by convention."""
    total = sum(getattr(run, target).sum(0, dtype=np.float64) for run in runs)
    mean = total / sum(len(run) for run in runs)
    return lambda run: np.tile(mean, (len(run), 1))


def ridge_predictor(
    runs: Sequence[StimulusRun], target: str = "bold", lags: int = 8, components: int = 60
) -> Predictor:
    """Return ridge regression on lagged features, one for all subjects.

    Parameters
    ----------
    runs : sequence of StimulusRun
        To fit on.
    target : {"bold", "teacher"}
    lags : int
        Steps back that it sees, as many as the student's haemodynamic layer.
    components : int
        Principal components of each modality that are used, to bound memory.

    Returns
    -------
    predictor : callable
    """
    from sklearn.linear_model import RidgeCV

    reduce = _components(runs, components)
    x = np.concatenate([lagged(reduce(run), lags)[_valid(run, target)] for run in runs])
    y = np.concatenate([getattr(run, target)[_valid(run, target)] for run in runs])
    model = RidgeCV(_ALPHAS).fit(x, y)
    return lambda run: model.predict(lagged(reduce(run), lags)).astype(np.float32)


def lagged(features: np.ndarray, lags: int) -> np.ndarray:
    """Put features of the last steps side by side; before the start they are zero.

    Parameters
    ----------
    features : ndarray of shape (steps, dim)
    lags : int
        1 is the present alone.

    Returns
    -------
    wide : ndarray of shape (steps, lags x dim)
        Lag 0 first.
    """
    return np.concatenate([np.pad(features, ((lag, 0), (0, 0)))[: len(features)] for lag in range(lags)], axis=1)


def _valid(run: StimulusRun, target: str) -> Any:
    return run.teacher_valid if target == "teacher" else slice(None)


def _components(runs: Sequence[StimulusRun], count: int) -> Any:
    """A function that gives a run's features in few, equally scaled numbers."""
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
