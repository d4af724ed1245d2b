"""A person whom no training saw: predicted as the mean subject, by a few numbers, and by a ridge of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from nbkit.neuro.tribe.newcomer import add_subject
from nbkit.neuro.tribe.runs.runs import NOBODY, StimulusRun
from nbkit.neuro.tribe.scoring.banded import GIVEN, LOW, RESPONSE, TEACHER, banded_predictor
from nbkit.neuro.tribe.scoring.evaluate import score, student_predictor
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import TinyTribe


def newcomer_rows(
    student: TinyTribe,
    train: Sequence[StimulusRun],
    held_out: Sequence[StimulusRun],
    times: int,
    frame: FrameSettings,
) -> list[dict[str, Any]]:
    """Score a new person's held-out runs in three ways.

    Parameters
    ----------
    student : TinyTribe
        Trained without this person; it does not change.
    train, held_out : sequence of StimulusRun
        The person's runs; without any, there are no rows.
    times : int
        Steps of a window.
    frame : FrameSettings
        Of the person's own ridge.

    Returns
    -------
    rows : list of dict
        ``r_newcomer`` beside the mean subject, and beside banded ridge fitted to the person's training runs;
        ``newcomer_floats`` is how many numbers were fitted, beside those of the ridge.
    """
    if not train or not held_out:
        return []
    known = copy.deepcopy(student)
    number = add_subject(known, train, times)
    fitted = score(student_predictor(known, times, number), held_out).mean
    mean = score(student_predictor(student, times, NOBODY), held_out).mean
    bands = [*MODALITIES, *(name for name in (LOW, RESPONSE, GIVEN, TEACHER) if _all_have(name, train, held_out))]
    ridge = score(banded_predictor(train, bands, frame), held_out).mean
    floats, steps = 2 * student.settings.dim, sum(int(run.scored.sum()) for run in train)
    return [
        _row("r_newcomer", fitted, mean, "the mean subject: nothing fitted"),
        _row("r_newcomer_against_ridge", fitted, ridge, f"banded ridge on the person's {steps} steps"),
        _row("newcomer_floats", floats, steps * student.settings.n_vertices, "dual weights of the ridge"),
    ]


def _all_have(band: str, train: Sequence[StimulusRun], held_out: Sequence[StimulusRun]) -> bool:
    return all(getattr(run, band) is not None for run in (*train, *held_out))


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": float(value), "unit": "1", "baseline": float(baseline), "baseline_is": baseline_is}
