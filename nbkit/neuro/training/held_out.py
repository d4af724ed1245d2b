"""Scores on test subjects: a model, its comparison models, a ridge regression and a constant.

All are scored on the same windows and the same crops as in the challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np

from nbkit.neuro.challenge.metrics import nrmse, nrmse_interval, score_rows
from nbkit.neuro.training.power_ridge import PowerRidge, powers_on_crops
from nbkit.neuro.training.regression import WindowRegressor
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.window_module import predict


@dataclass(frozen=True)
class HeldOut:
    """Scores on test subjects, with the targets and predictions behind them.

    Attributes
    ----------
    rows : list of dict
        Rows for a session's results, with name, value, unit, baseline and baseline_is.
    scores : dict of str to float
        NRMSE by model, for a figure.
    intervals : dict of str to (low, high)
        Confidence interval of each score, bootstrapped over subjects; empty for fewer than two subjects.
    target, prediction : array of shape (windows,)
        True values, and predictions of the best checkpoint.
    subjects : array of shape (windows,)
        Subject of each window.
    """

    rows: list[dict[str, Any]]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    target: np.ndarray
    prediction: np.ndarray
    subjects: np.ndarray


def score_held_out(
    name: str, best: WindowRegressor, module: WithRivals, data: lightning.LightningDataModule
) -> HeldOut:
    """Score the best checkpoint, the last step, the comparison models and the baselines on the test subjects.

    Parameters
    ----------
    name : str
        Name of the main score.
    best : WindowRegressor
        The model at its best validation.
    module : WithRivals
        The model after its last step; it and its comparison models had the same number of steps.
    data : WindowData

    Returns
    -------
    held_out : HeldOut
    """
    prediction, target = (part.numpy() for part in predict(best, data.test_dataloader()))
    subjects, train_mean = data.test_dataset.subjects, data.target_scale(best.target)[0]
    called = {rival: f"{module.words.get(rival, rival)}, last step" for rival in module.rivals}
    predictions = {
        "pretrained, best validation": prediction,
        "pretrained, last step": predict(module, data.test_dataloader())[0].numpy(),
        **{called[rival]: predict(module.rivals[rival], data.test_dataloader())[0].numpy() for rival in module.rivals},
        "ridge on band powers": ridge_on_crops(data, best.target),
        "constant, training mean": np.full(len(target), train_mean),
    }
    scores = {model: nrmse(target, predicted) for model, predicted in predictions.items()}
    several = len(set(subjects.tolist())) > 1  # an interval over one subject does not exist
    intervals = {model: nrmse_interval(target, p, subjects) for model, p in predictions.items() if several}
    ends = dict(zip(("low", "high"), intervals.get("pretrained, best validation", ()), strict=False))
    others = {
        "last": scores["pretrained, last step"],
        **{f"{rival}_last": scores[words] for rival, words in called.items()},
        "ridge": scores["ridge on band powers"], **ends,
    }  # fmt: skip
    rows = score_rows(name, target, prediction, train_mean, others=others)
    return HeldOut(rows, scores, intervals, target, prediction, subjects)


def ridge_on_crops(data: Any, column: str) -> np.ndarray:
    """Return the ridge's predictions, shape (windows,), for the crops that networks are scored on.

    The ridge is also trained on fixed crops.
    """
    train, test = powers_on_crops(data)
    target = data.train_dataset.column(column).astype(float)
    return PowerRidge().fit(train, target, data.train_dataset.subjects).predict(test)
