"""The frame: no held-out step or person is in a fold's training, and everybody is predicted once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.fmri import FmriSettings
from nbkit.neuro.tribe.runs.runs import NOBODY
from nbkit.neuro.tribe.scoring.frame import (
    EVERYTHING,
    JOINT,
    LOW_RIDGE,
    ON_OFF,
    READOUT,
    RIDGE,
    STACK,
    STUDENT,
    TEACHER_RIDGE,
    WORD_RATE,
    encode_fold,
    folds_of,
    join_folds,
    rivals_of,
)
from nbkit.neuro.tribe.scoring.refit import refit_student
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.scoring.uncertainty import Encoding
from nbkit.neuro.tribe.student.student import StudentSettings
from tests.neuro.tribe.scoring.test_banded import planted

QUICK = replace(FrameSettings.smoke(), search=3, components=4, inner_blocks=2)


def crossed(people=4, blocks=3, steps=40):
    return [
        replace(planted(10 * block + person, steps), name=f"b{block}", subject=person)
        for block in range(blocks) for person in range(people)
    ]  # fmt: skip


def test_the_split_of_phase_3_is_one_fold_and_crossings_hold_out_both():
    runs = crossed()
    (only,) = folds_of(runs[:8], runs[8:], QUICK)
    assert (only.key, only.new_people, len(only.train), len(only.held_out)) == ("split", False, 8, 4)
    folds = folds_of(runs[:8], runs[8:], replace(QUICK, time_folds=3, subject_folds=2))
    assert [fold.key for fold in folds] == [f"time{t}-people{p}" for t in (1, 2, 3) for p in (1, 2)]
    held = [(run.name, run.subject) for fold in folds for run in fold.held_out]
    assert sorted(held) == sorted((run.name, run.subject) for run in runs)  # each once
    for fold in folds:
        assert not {run.name for run in fold.train} & {run.name for run in fold.held_out}
        assert not {run.subject for run in fold.train} & {run.subject for run in fold.held_out}
    same = folds_of(runs, [], replace(QUICK, time_folds=3))
    assert len(same) == 3 and {run.subject for run in same[0].train} == {0, 1, 2, 3} and not same[0].new_people
    with pytest.raises(ValueError, match="There are 3 stimuli or blocks for 5 folds"):
        folds_of(runs, [], replace(QUICK, time_folds=5))
    with pytest.raises(ValueError, match="There are 4 people for 9 folds"):
        folds_of(runs, [], replace(QUICK, time_folds=3, subject_folds=9))


def test_a_fold_holds_every_models_predictions_of_its_held_out_steps():
    runs = crossed()
    runs = [replace(run, response=run.low, bold_valid=np.arange(40) >= 4) for run in runs]
    fitted = []

    def students(fit):
        fitted.extend(fit)
        return {STUDENT: lambda run: run.bold * 2.0 + 5.0}, lambda run: run.low

    fold = folds_of(runs, [], replace(QUICK, time_folds=3, subject_folds=2))[0]
    arrays = encode_fold(fold, QUICK, students)
    assert {run.subject for run in fitted} == {NOBODY} and len(fitted) == 2  # the mean person, for two blocks
    models = {name.removeprefix("model:") for name in arrays if name.startswith("model:")}
    assert models == {WORD_RATE, LOW_RIDGE, RIDGE, READOUT, EVERYTHING, STUDENT, STACK}
    assert arrays["truth"].shape == (2 * 36, 4) and arrays["run"].tolist() == [0] * 36 + [1] * 36
    encoding = Encoding(join_folds([arrays]), 1.5)
    assert encoding.r(STUDENT)[:, :3] == pytest.approx(np.ones((2, 3)), abs=1e-5)  # the scale of a prediction is free


def test_one_model_a_person_and_the_teacher_where_there_is_one(some_runs):
    held = [run for run in some_runs if run.name == some_runs[0].name]
    rest = [run for run in some_runs if run.name != some_runs[0].name]
    (fold,) = folds_of(rest, held, QUICK)
    arrays = encode_fold(fold, QUICK, lambda fit: ({STUDENT: lambda run: run.teacher}, lambda run: run.teacher))
    assert {f"model:{name}" for name in (RIDGE, TEACHER_RIDGE, JOINT)} <= set(
        arrays
    ) and "model:word rate" not in arrays


def test_blocks_are_told_by_whether_they_are_there():
    runs = [replace(run, response=run.low, low_names=("speech", *run.low_names[1:])) for run in crossed(people=1)]
    (fold,) = folds_of(runs[1:], runs[:1], QUICK)
    rivals = rivals_of(fold, QUICK)
    assert {ON_OFF, LOW_RIDGE, RIDGE} == set(rivals) and set(rivals_of(fold, QUICK, only=(RIDGE,))) == {RIDGE}
    np.testing.assert_array_equal(rivals[ON_OFF](runs[0]), np.tile(runs[0].low[:, :1], (1, 4)))


@pytest.mark.train
def test_a_folds_student_is_trained_on_its_runs_alone_and_twice_the_same():
    runs = [replace(run, low=None, response=None) for run in crossed(people=1)]
    sizes = StudentSettings.smoke().of(
        n_vertices=4, dim=16, heads=2, hidden=16, expert_hidden=16, text_dim=5, audio_dim=3, video_dim=4, tr=1.5
    )
    settings = replace(FmriSettings.smoke(), student=sizes, steps=6)
    first, again = (refit_student(settings, runs, None, None, 1) for _ in range(2))
    other = refit_student(settings, runs[:1], None, None, 1)
    weights = [student.vertices.weight.detach().numpy() for student in (first, again, other)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2]) and not first.training
