"""The residual of a run is that of a ridge which did not see the run, and the student's part is added to the ridge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from nbkit.neuro.tribe.scoring.frame import RIDGE, STUDENT, encode_fold, folds_of, join_folds
from nbkit.neuro.tribe.scoring.residual import RESIDUAL, crossed_residuals, sum_of
from nbkit.neuro.tribe.scoring.uncertainty import Encoding
from tests.neuro.tribe.scoring.test_frame import QUICK, crossed


def by_sklearn(runs):
    model = Ridge(1.0).fit(*(np.concatenate([v(run) for run in runs]) for v in (lambda r: r.low, lambda r: r.bold)))
    return lambda run: model.predict(run.low)


def test_residuals_are_those_of_models_that_did_not_see_the_run():
    runs = crossed(people=2, blocks=3)
    left = crossed_residuals(by_sklearn, runs)
    assert [(run.name, run.subject) for run in left] == [(run.name, run.subject) for run in runs]
    for run, rest in zip(runs, left, strict=True):
        others = [one for one in runs if one.name != run.name]
        np.testing.assert_allclose(rest.bold, run.bold - by_sklearn(others)(run), atol=1e-5)
        assert not np.allclose(rest.bold, run.bold - by_sklearn(runs)(run), atol=1e-3)
    with pytest.raises(ValueError, match="a residual needs two stimuli or blocks"):
        crossed_residuals(by_sklearn, runs[:2])


@pytest.mark.parametrize("people_out", [0, 2])
def test_a_student_of_the_residual_is_added_to_the_ridge(people_out):
    runs = [replace(run, response=run.low) for run in crossed()]
    settings = replace(QUICK, time_folds=3, subject_folds=people_out, residual=True)
    asked = []

    def students(fit, fresh=False):
        asked.append((fresh, fit))
        return {STUDENT: (lambda run: 0 * run.bold) if fresh else (lambda run: run.bold)}, lambda run: run.low

    arrays = encode_fold(folds_of(runs, [], settings)[0], settings, students)
    (plain, first), (fresh, left) = asked
    assert (plain, fresh) == (False, True) and [run.name for run in left] == [run.name for run in first]
    assert not any(np.array_equal(rest.bold, run.bold) for run, rest in zip(first, left, strict=True))
    np.testing.assert_allclose(arrays[f"model:{RESIDUAL}"], arrays[f"model:{RIDGE}"], atol=1e-6)  # it added nothing
    assert Encoding(join_folds([arrays]), 1.5).models[-1] == "stack"


def test_the_sum_is_of_predictions_in_the_responses_units():
    (run,) = crossed(people=1, blocks=1)
    assert np.array_equal(sum_of(lambda one: one.bold * 0.25, lambda one: one.bold * 0.75)(run), run.bold)
