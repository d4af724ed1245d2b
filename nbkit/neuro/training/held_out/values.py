"""Scores on test subjects: a model, its comparison models, a ridge regression and a constant.

All are scored on the same windows and the same crops as in the challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np

from nbkit.neuro.challenge.metrics import nrmse, score_rows
from nbkit.neuro.training.power_ridge import PowerRidge, powers_on_crops
from nbkit.neuro.training.regression import WindowRegressor
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.scores.pooled import beside_pooled, error_sums, nrmse_of, pooled_interval
from nbkit.neuro.training.window_module import predict

BEST, LAST = "pretrained, best validation", "pretrained, last step"


@dataclass(frozen=True)
class HeldOut:
    """Scores on test subjects, with the targets and predictions behind them.

    Attributes
    ----------
    rows : list of dict
        Rows for a session's results. The first, of the best checkpoint, has its interval over subjects and all
        rivals; the second, of the last step, the rivals that were trained for as many steps.
    scores : dict of str to float
        NRMSE by model, for a figure.
    intervals : dict of str to (low, high)
        Confidence interval of each score, jackknifed over subjects; empty for fewer than two subjects.
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
        BEST: prediction,
        LAST: predict(module, data.test_dataloader())[0].numpy(),
        **{called[rival]: predict(module.rivals[rival], data.test_dataloader())[0].numpy() for rival in module.rivals},
        "ridge on band powers": ridge_on_crops(data, best.target),
        **of_people(data, best.target, prediction),
        "constant, training mean": np.full(len(target), train_mean),
    }
    scores = {model: nrmse(target, predicted) for model, predicted in predictions.items()}
    people, of = np.unique(subjects, return_inverse=True)
    sums = {model: error_sums(target, predicted, of) for model, predicted in predictions.items()}
    several = len(people) > 1  # an interval over one subject does not exist
    intervals = {model: pooled_interval(nrmse_of, own) for model, own in sums.items() if several}
    ends = dict(zip(("low", "high"), intervals.get(BEST, ()), strict=False))
    others = {
        "last": scores[LAST],
        **{f"{rival}_last": scores[words] for rival, words in called.items()},
        "ridge": scores["ridge on band powers"], **ends,
        **{short: scores[words] for words, short in _OF_PEOPLE.items() if words in scores},
    }  # fmt: skip
    rows = score_rows(name, target, prediction, train_mean, others=others)
    ours = {BEST, LAST, _AVERAGED}
    if several:
        over = {"over": f"{len(people)} subjects", "lower_is_better": True}
        rows[0] |= {**over, **beside_pooled(nrmse_of, sums[BEST], {m: s for m, s in sums.items() if m not in ours})}
        equal = {words: sums[words] for words in called.values()}
        rows[1] |= {**over, **beside_pooled(nrmse_of, sums[LAST], equal)}
    return HeldOut(rows, scores, intervals, target, prediction, subjects)


def of_people(data: Any, column: str, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """Return predictions for a target that each subject has one of, as a factor of challenge 2; empty for others.

    They are the prediction averaged over each subject's windows, and a ridge regression on age and sex, without EEG,
    where the windows have these columns.

    Parameters
    ----------
    data : WindowData
    column : str
        Column of the target.
    prediction : array of shape (windows,)
        For the test windows.

    Returns
    -------
    predictions : dict of str to array of shape (windows,)
    """
    target, subjects = data.test_dataset.column(column).astype(float), data.test_dataset.subjects
    names, of = np.unique(subjects, return_inverse=True)
    if len(names) < 2 or any(np.ptp(target[of == place]) > 0 for place in range(len(names))):
        return {}
    found = {_AVERAGED: (np.bincount(of, prediction) / np.bincount(of))[of]}
    people = [_people(side, column) for side in (data.train_dataset, data.test_dataset)]
    if all(len(known) for known, *_ in people) and len(people[0][0]) > 2:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        (train, values, _), (test, _, back) = people
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=10.0 ** np.arange(-2, 4)))
        found[_AGE_SEX] = model.fit(train, values).predict(test)[back]
    return found


_AVERAGED, _AGE_SEX = "pretrained, averaged by subject", "ridge on age and sex, no EEG"
_OF_PEOPLE = {_AVERAGED: "by_subject", _AGE_SEX: "age_sex"}


def _people(side: Any, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return age and sex (missing ones as their mean), the target, and the place of each window's subject."""
    names, first, of = np.unique(side.subjects, return_index=True, return_inverse=True)
    there = [name for name in ("age", "sex") if name in side.column_names]
    if "age" not in there:
        return np.zeros((0, 0)), np.zeros(0), of
    found = np.stack([side.column(name).astype(float)[first] for name in there], 1)
    if not np.isfinite(found[:, 0]).any():
        return np.zeros((0, 0)), np.zeros(0), of
    means = np.nan_to_num(np.nanmean(np.where(np.isfinite(found), found, np.nan), axis=0))
    return np.where(np.isfinite(found), found, means), side.column(column).astype(float)[first], of


def ridge_on_crops(data: Any, column: str) -> np.ndarray:
    """Return the ridge's predictions, shape (windows,), for the crops that networks are scored on.

    The ridge is also trained on fixed crops.
    """
    train, test = powers_on_crops(data)
    target = data.train_dataset.column(column).astype(float)
    return PowerRidge().fit(train, target, data.train_dataset.subjects).predict(test)
