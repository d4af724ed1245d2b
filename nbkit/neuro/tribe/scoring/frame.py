"""The frame in which a student meets its rivals: the same folds, the same features, the same scored steps.

Either people stay the same and each has a model of its own, or people are held out together with time, and a model of
the mean training subject predicts them. All predictions of a fold are stored, and every score is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nbkit.neuro.tribe.runs.blocks import mean_subject
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.scoring.banded import (
    GIVEN,
    LOW,
    RESPONSE,
    STUDENT_BAND,
    TEACHER,
    banded_predictor,
    one_a_subject,
)
from nbkit.neuro.tribe.scoring.evaluate import Predictor
from nbkit.neuro.tribe.scoring.residual import RESIDUAL, crossed_residuals, sum_of
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.student.fusion import MODALITIES

WORD_RATE, LOW_RIDGE, RIDGE, TEACHER_RIDGE = "word rate", "low-level ridge", "banded ridge", "ridge on teacher"
JOINT, STUDENT, BEFORE, STACK = "ridge with teacher", "student", "student before fMRI", "stack"
ON_OFF, _SPEECH = "on or off", "speech"
READOUT, EVERYTHING = "ridge on student", "ridge with all"
_STACKED = (WORD_RATE, RIDGE, TEACHER_RIDGE, STUDENT)
# maps the runs to fit to predictors of students by name, and to the features of the first for ridge regression; with
# True as second argument, the student is trained on these runs and on nothing else
StudentMaker = Callable[..., tuple[Mapping[str, Predictor], Predictor]]


@dataclass(frozen=True)
class Fold:
    """Training and held-out runs of a fold."""

    key: str
    train: list[StimulusRun]
    held_out: list[StimulusRun]
    new_people: bool  # whether the held-out people are in no training run


def folds_of(train: Sequence[StimulusRun], held_out: Sequence[StimulusRun], settings: FrameSettings) -> list[Fold]:
    """Return the folds: the given split, or all crossings of held-out stimuli and held-out people.

    Parameters
    ----------
    train, held_out : sequence of StimulusRun
        The split of phase 3; with ``time_folds``, both are split anew.
    settings : FrameSettings

    Raises
    ------
    ValueError
        If there are fewer stimuli (or blocks of time), or people, than folds.
    """
    if not settings.time_folds:
        return [Fold("split", list(train), list(held_out), False)]
    runs = sorted([*train, *held_out], key=lambda run: (run.name, run.subject))
    names = list(dict.fromkeys(run.name for run in runs))
    people = sorted({run.subject for run in runs})
    for what, count, wanted in (
        ("stimuli or blocks", names, settings.time_folds),
        ("people", people, settings.subject_folds),
    ):
        if len(count) < max(wanted, 2 * (wanted > 0)):
            raise ValueError(
                f"There are {len(count)} {what} for {wanted} folds; use fewer folds, or cut into more blocks."
            )
    shuffled = np.random.default_rng(settings.seed).permutation(people)
    groups = np.array_split(shuffled, settings.subject_folds) if settings.subject_folds else [np.array(people)]
    made = []
    for t, out in enumerate(np.array_split(np.array(names), settings.time_folds)):
        for g, group in enumerate(groups):
            others = people if not settings.subject_folds else sorted(set(people) - set(group.tolist()))
            fit = [run for run in runs if run.name not in out and run.subject in others]
            test = [run for run in runs if run.name in out and run.subject in group]
            made.append(Fold(f"time{t + 1}-people{g + 1}", fit, test, bool(settings.subject_folds)))
    return made


def unfitted_predictor(run: StimulusRun, name: str = WORD_RATE) -> np.ndarray:
    """Predict every output by one low-level regressor under SPM's response: nothing is fitted."""
    values = run.response[:, [run.low_names.index(name)]]
    return np.tile(values, (1, run.bold.shape[1]))


def rivals_of(
    fold: Fold, settings: FrameSettings, student: Predictor | None = None, only: Sequence[str] = ()
) -> dict[str, Predictor]:
    """Fit the rivals that the runs allow to a fold's training runs.

    Parameters
    ----------
    fold : Fold
    settings : FrameSettings
    student : callable, optional
        Maps a run to a student's features (see `banded_predictor`).
    only : sequence of str
        Fit these alone.

    Returns
    -------
    predictors : dict of callable
        Unfitted: ``word rate``, and ``on or off`` (whether a word is there, or a block that is named by one). Fitted:
        ``low-level ridge``; ``banded ridge`` on all features of the stimulus; with a teacher, ``ridge on teacher`` and
        ``ridge with teacher``, which has both; with a student's features, ``ridge on student`` and ``ridge with all``.
    """
    fit = mean_subject(fold.train) if fold.new_people else fold.train
    everywhere = [*fold.train, *fold.held_out]
    has = {name: all(getattr(run, name) is not None for run in everywhere) for name in (LOW, RESPONSE, GIVEN, TEACHER)}
    low = [name for name in (LOW, RESPONSE, GIVEN) if has[name]]
    wanted: dict[str, list[str]] = {RIDGE: [*MODALITIES, *low]}
    if low:
        wanted = {LOW_RIDGE: low, **wanted}
    if has[TEACHER]:
        wanted |= {TEACHER_RIDGE: [TEACHER], JOINT: [*MODALITIES, *low, TEACHER]}
    if student is not None:
        told = [TEACHER] if has[TEACHER] else []
        wanted |= {READOUT: [STUDENT_BAND], EVERYTHING: [*MODALITIES, *low, *told, STUDENT_BAND]}
    made: dict[str, Predictor] = {}
    for name, column in ((WORD_RATE, WORD_RATE), (ON_OFF, _SPEECH)):
        if not only and has[LOW] and all(column in run.low_names for run in everywhere):
            made[name] = partial(unfitted_predictor, name=column)
    for name, bands in wanted.items():
        if only and name not in only:
            continue
        if fold.new_people:
            made[name] = banded_predictor(fit, bands, settings, student=student)
        else:
            made[name] = one_a_subject(partial(banded_predictor, bands=bands, settings=settings, student=student), fit)
    return made


def _ridge(runs: list[StimulusRun], fold: Fold, settings: FrameSettings) -> Predictor:
    """Fit the banded ridge of a fold to some of its runs."""
    return rivals_of(replace(fold, train=runs), settings, only=(RIDGE,))[RIDGE]


def encode_fold(fold: Fold, settings: FrameSettings, make_student: StudentMaker) -> dict[str, np.ndarray]:
    """Fit all models to a fold and return their predictions for its held-out steps.

    Parameters
    ----------
    fold : Fold
    settings : FrameSettings
    make_student : StudentMaker

    Returns
    -------
    arrays : dict
        ``truth`` (rows, outputs), ``run`` (rows,) with the number of each row's run, ``names``, ``subjects`` (runs,),
        ``keep`` (runs, outputs), and for each model ``model:<name>`` (rows, outputs). Predictions are z-scored within
        each run, because models of different folds have scales of their own.
    """
    fit = mean_subject(fold.train) if fold.new_people else fold.train
    students, features = make_student(fit)
    predictors = {**rivals_of(fold, settings, features), **students}
    if settings.residual:
        left = crossed_residuals(partial(_ridge, fold=fold, settings=settings), fit)
        predictors[RESIDUAL] = sum_of(predictors[RIDGE], make_student(left, True)[0][STUDENT])
    made: dict[str, list[np.ndarray]] = {name: [] for name in (*predictors, STACK)}
    for run in fold.held_out:
        own = {name: z_over_time(predictor(run)[run.scored]) for name, predictor in predictors.items()}
        parts = [own[name] for name in _STACKED if name in own]
        own[STACK] = z_over_time(np.mean(parts, axis=0))
        for name, values in own.items():
            made[name].append(values.astype(np.float32))
    lengths = [int(run.scored.sum()) for run in fold.held_out]
    arrays: dict[str, Any] = {f"model:{name}": np.concatenate(values) for name, values in made.items()}
    alive = np.ones(fold.held_out[0].bold.shape[1], bool)
    return arrays | {
        "truth": np.concatenate([z_over_time(run.bold[run.scored]) for run in fold.held_out]).astype(np.float32),
        "run": np.repeat(np.arange(len(lengths)), lengths),
        "names": np.array([run.name for run in fold.held_out]),
        "subjects": np.array([run.subject for run in fold.held_out]),
        "keep": np.stack([alive if run.keep is None else run.keep for run in fold.held_out]),
    }


def z_over_time(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and variance 1 over time; zero where they are constant."""
    values = np.asarray(values, np.float64)
    centred = values - values.mean(0)
    spread = centred.std(0)
    return np.where(spread > 1e-9, centred / np.where(spread > 1e-9, spread, 1.0), 0.0)


def join_folds(folds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of all folds as one, with each run numbered once (see `encode_fold`)."""
    models = [name for name in folds[0] if name.startswith("model:")]
    first = np.cumsum([0, *(len(one["names"]) for one in folds)])
    made = {
        name: np.concatenate([one[name] for one in folds]) for name in (*models, "truth", "names", "subjects", "keep")
    }
    made["run"] = np.concatenate([one["run"] + begin for one, begin in zip(folds, first, strict=False)])
    return made
