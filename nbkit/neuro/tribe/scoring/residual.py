"""A student that learns what banded ridge regression leaves: trained on the ridge's residual, and added to it.

The residual of training runs is that of ridge models which did not see the run. With the residual of a model's own
training runs, the student would learn from what the model had already fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.scoring.evaluate import Predictor

RESIDUAL = "ridge + student"
Fit = Callable[[list[StimulusRun]], Predictor]


def crossed_residuals(fit: Fit, runs: Sequence[StimulusRun]) -> list[StimulusRun]:
    """Return the runs with what a model of the other stimuli leaves of their responses.

    Parameters
    ----------
    fit : callable
        Maps training runs to a predictor.
    runs : sequence of StimulusRun
        Training runs, of at least two stimuli or blocks.

    Returns
    -------
    runs : list of StimulusRun
        In the same order; ``bold`` is the residual, in the units of the responses.

    Raises
    ------
    ValueError
        If all runs are of one stimulus.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    if len(names) < 2:
        raise ValueError(
            f"All {len(runs)} training runs are of {names}; a residual needs two stimuli or blocks, one to fit and one "
            "to predict. Cut the runs with SETTINGS = {'blocks': 4}, or leave out FRAME_SETTINGS = {'residual': true}."
        )
    left = {}
    for name in names:
        predict = fit([run for run in runs if run.name != name])
        for number, run in enumerate(runs):
            if run.name == name:
                left[number] = replace(run, bold=(run.bold - predict(run)).astype(np.float32))
    return [left[number] for number in range(len(runs))]


def sum_of(ridge: Predictor, student: Predictor) -> Predictor:
    """Return a predictor of the ridge's prediction plus the student's, which was trained on the residual."""
    return lambda run: ridge(run) + student(run)
