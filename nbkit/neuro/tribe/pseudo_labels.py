"""Pseudo-labels: predictions of a trained student for videos that the teacher never saw.

A student that trains on its own errors amplifies them. Pseudo-labels therefore have a lower loss weight than the
teacher's, come only from a student with a sufficient r on held-out data that is also above a baseline, never replace
the teacher's predictions, and are never made for validation videos.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.imaging.bold import TEACHER_OFFSET_S
from nbkit.neuro.tribe.runs.runs import NOBODY, StimulusRun, stimulus_of
from nbkit.neuro.tribe.scoring.evaluate import predict_run, score, student_predictor
from nbkit.neuro.tribe.student.student import TinyTribe

LOSS_WEIGHTS = {"fmri": 0.4, "teacher": 0.3, "pseudo": 0.2, "other": 0.1}
LEAST_R = 0.20


@checked
@dataclass(frozen=True)
class PseudoSettings:
    """Thresholds for pseudo-labels."""

    least_r: float = LEAST_R  # lower limit of the held-out r (exclusive)
    least_std: float = 0.05  # z units; a nearly constant prediction has no information
    most_std: float = 5.0  # z units; a larger one shows that the student diverged

    @classmethod
    def free(cls) -> PseudoSettings:
        """Return the seed project's thresholds."""
        return cls()

    @classmethod
    def smoke(cls) -> PseudoSettings:
        """Return the same thresholds: a short test does not lower them."""
        return cls()


class UnfitStimulus(ValueError):
    """Raised if a stimulus must not get a pseudo-label; a loop skips it and prints this message."""


class PseudoLabeler:
    """Make pseudo-labels with a student that is good enough.

    Parameters
    ----------
    predict : callable
        Maps the features of a stimulus to predictions of shape (time, outputs).
    held_out_r, baseline_r : float
        Mean r on held-out data of the student, and of the best baseline.
    taught, validation : collection of str
        Stimuli that the teacher saw, and stimuli of the validation.
    settings : PseudoSettings, optional

    Raises
    ------
    ValueError
        If the student's r is not above ``least_r`` and above the baseline's.
    """

    def __init__(
        self,
        predict: Callable[[Mapping[str, Any]], np.ndarray],
        held_out_r: float,
        baseline_r: float,
        taught: Collection[str] = (),
        validation: Collection[str] = (),
        settings: PseudoSettings | None = None,
    ) -> None:
        self.settings = settings or PseudoSettings()
        if not held_out_r > self.settings.least_r:
            raise ValueError(
                f"The student's held-out r is {held_out_r:.3f}; pseudo-labels need more than "
                f"{self.settings.least_r:g}, because the errors of a weaker student compound. No labels were made. "
                "Train phase 2 longer, or on more of the teacher's predictions."
            )
        if not held_out_r > baseline_r:
            raise ValueError(
                f"The student's held-out r {held_out_r:.3f} is not above its baseline's {baseline_r:.3f}. "
                "No labels were made."
            )
        self.predict, self.held_out_r = predict, float(held_out_r)
        self.taught, self.validation = frozenset(taught), frozenset(validation)

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Label one stimulus.

        Parameters
        ----------
        features : mapping
            Features of the stimulus, with ``video_id``.

        Returns
        -------
        arrays : dict
            Arrays for ``item.save``: predictions (time, outputs) in float16, video_id, held_out_r, source and weight.

        Raises
        ------
        UnfitStimulus
            If it is a validation stimulus, the teacher saw it, or the prediction is not finite or not plausible.
        """
        name = str(features["video_id"])
        if name in self.validation:
            raise UnfitStimulus(
                f"Stimulus {name} is a validation stimulus: its label would leak into training. It was skipped."
            )
        if name in self.taught:
            raise UnfitStimulus(
                f"No label needed: the teacher saw {name}, and its prediction is better than the student's."
            )
        predictions = np.asarray(self.predict(features), np.float32)
        if predictions.ndim != 2 or not np.isfinite(predictions).all():
            raise UnfitStimulus(
                f"The student's prediction for {name} has the shape {predictions.shape}, or values that are "
                "NaN or infinite; finite values (time, outputs) are needed. It was skipped."
            )
        moves = float(predictions.std(axis=0).mean())
        if not self.settings.least_std <= moves <= self.settings.most_std:
            raise UnfitStimulus(
                f"The student's prediction for {name} varies by {moves:.3g} z on average; plausible values lie between "
                f"{self.settings.least_std:g} and {self.settings.most_std:g}."
            )
        return {
            "predictions": predictions.astype(np.float16), "video_id": np.array(name),
            "held_out_r": np.float64(self.held_out_r), "weight": np.float64(LOSS_WEIGHTS["pseudo"]),
            "source": np.array("pseudo-labels of a student; no teacher and no brain"),
        }  # fmt: skip


def pseudo_runs(
    student: TinyTribe | None,
    without: Sequence[StimulusRun],
    train: Sequence[StimulusRun],
    val: Sequence[StimulusRun],
    settings: Any,
) -> list[StimulusRun]:
    """Return runs whose targets are a student's predictions, for phase 3 with pseudo-labels.

    Parameters
    ----------
    student : TinyTribe or None
        Of the phase before; its r is measured on the held-out runs, as the mean subject.
    without : sequence of StimulusRun
        Stimuli without a target (see `unlabelled`).
    train, val : sequence of StimulusRun
        Runs with fMRI; their stimuli get no label.
    settings : FmriSettings
        Without a weight for pseudo-labels, there are none.

    Returns
    -------
    runs : list of StimulusRun
        What is not plausible is left out, with a line that says why.

    Raises
    ------
    ValueError
        If labels are wanted, and there is no student, no stimulus without a target, or the student is not good enough.
    """
    if not settings.weights.pseudo:
        return []
    if student is None or not without:
        what = "a student of the phase before (START)" if student is None else "stimuli with features and nothing else"
        raise ValueError(f"Pseudo-labels need {what}; there are none. Set weights.pseudo to 0, or add them.")
    held_out = score(student_predictor(student, settings.times, NOBODY), val).mean
    by_name = {run.name: run for run in without}

    def predict(features: Mapping[str, Any]) -> np.ndarray:
        return predict_run(student, by_name[str(features["video_id"])], settings.times, subject=NOBODY)

    names = {stimulus_of(run.name) for run in val}
    label = PseudoLabeler(predict, held_out, 0.0, {stimulus_of(run.name) for run in train} - names, names)
    made = []
    for run in without:
        try:
            arrays = label({"video_id": run.name})
        except UnfitStimulus as reason:
            print(reason)
            continue
        valid = np.arange(len(run)) * run.step_s >= TEACHER_OFFSET_S  # as a teacher's, without the past of the first
        made.append(replace(run, teacher=arrays["predictions"].astype(np.float32), teacher_valid=valid, pseudo=True))
    print(f"pseudo-labels: {len(made)} stimuli, by a student whose held-out r is {held_out:.3f} (mean response: 0)")
    return made
