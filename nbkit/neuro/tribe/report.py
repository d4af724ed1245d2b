"""Results of notebook 65: the student's scores next to baselines, maps of one moment, and exported files.

Every score has a baseline. Agreement with the teacher is never reported as a score on brain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.imaging.hrf import double_gamma
from nbkit.neuro.tribe.baselines import mean_predictor, ridge_predictor
from nbkit.neuro.tribe.evaluate import (
    Scores,
    milliseconds_per_second,
    modality_reliance,
    predict_run,
    score,
    student_predictor,
)
from nbkit.neuro.tribe.export import compare, export_onnx, quantize, sample_inputs
from nbkit.neuro.tribe.runs.gather import Regions, planted_world
from nbkit.neuro.tribe.runs.runs import NOBODY, StimulusRun
from nbkit.neuro.tribe.stimuli.features import MODALITIES
from nbkit.neuro.tribe.stimuli.synthetic import planted_brain
from nbkit.neuro.tribe.student.student import TinyTribe

RIDGE, BEFORE, MEAN = "ridge on lagged features", "student before fMRI", "mean response"


def scores_of(
    student: TinyTribe, before: TinyTribe, train: Sequence[StimulusRun], held_out: Sequence[StimulusRun], times: int
) -> dict[str, Scores]:
    """Score the student, the baselines, and the student's agreement with the teacher if there is one.

    Parameters
    ----------
    student : TinyTribe
    before : TinyTribe
        The student of phase 2.
    train : sequence of StimulusRun
        Runs to fit ridge regression and the mean to.
    held_out : sequence of StimulusRun
        Runs to score.
    times : int
        Steps of a window.

    Returns
    -------
    scores : dict of Scores
        ``student``, then the baselines; ``teacher`` is the agreement with the teacher.
    """
    predictors = {
        "student": student_predictor(student, times),
        BEFORE: student_predictor(before, times, NOBODY),
        RIDGE: ridge_predictor(train),
        MEAN: mean_predictor(train),
    }
    made = {name: score(predictor, held_out) for name, predictor in predictors.items()}
    taught = [run for run in held_out if run.teacher is not None]
    if taught:
        made["teacher"] = score(student_predictor(student, times, NOBODY), taught, "teacher")
    return made


def result_rows(
    scores: Mapping[str, Scores],
    regions: Regions,
    held_out: Sequence[StimulusRun],
    student: TinyTribe,
    times: int,
) -> list[dict[str, Any]]:
    """Return the scores as result rows, each with a baseline.

    Parameters
    ----------
    scores : mapping of str to Scores
        See `scores_of`.
    regions : Regions
    held_out : sequence of StimulusRun
    student : TinyTribe
    times : int
        Steps of a window.

    Returns
    -------
    rows : list of dict
        Keys name, value, unit, baseline, baseline_is.
    """
    mine = scores["student"]
    rows = [
        _row(f"r_fmri_against_{key}", mine.mean, scores[name].mean, name)
        for key, name in (("ridge", RIDGE), ("phase2", BEFORE), ("mean", MEAN))
    ]
    if mine.ceiling is not None:
        rows.append(_row("share_of_noise_ceiling", mine.of_ceiling, scores[RIDGE].of_ceiling, RIDGE))
    ridge = regions.mean_r(scores[RIDGE].r)
    for name, value in regions.mean_r(mine.r).items():
        if np.isfinite(value):
            rows.append(_row(f"r_{name}", value, ridge[name], RIDGE))
    if "teacher" in scores:
        rows.append(_row("agreement_with_teacher", scores["teacher"].mean, 0.0, MEAN))
    if regions.names == MODALITIES:  # the synthetic world, in which one modality drives each output
        found = modality_reliance(student, held_out[:4], times).argmax(0) == regions.network
        rows.append(_row("right_modality", float(found.mean()), 1 / 3, "chance"))
    run = held_out[0]
    taken = milliseconds_per_second(student_predictor(student, times), run)
    rows.append({"name": "ms_per_second", "value": taken, "unit": "ms", "baseline": 1000.0, "baseline_is": "real time"})
    return rows


def moment_maps(student: TinyTribe, run: StimulusRun, times: int, regions: Regions) -> dict[str, np.ndarray]:
    """Return maps on fsaverage of one moment: the true response, the student's prediction, and the difference.

    The true response is the teacher's if there is one, else the fMRI. The moment is the step at which it is strongest.

    Returns
    -------
    maps : dict of str to ndarray
        Keys ``teacher`` or ``fMRI``, ``student`` and ``difference``.
    """
    name, true = ("teacher", run.teacher) if run.teacher is not None else ("fMRI", run.bold)
    said = predict_run(student, run, times, subject=NOBODY if run.teacher is not None else None)
    at = int(np.square(true).mean(1).argmax())
    maps = {name: true[at], "student": said[at], "difference": said[at] - true[at]}
    return {key: regions.on_surface(value) for key, value in maps.items()}


def planted_response(source: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the synthetic world's haemodynamic response as (times in s, response); None for other sources."""
    if source != "planted":
        return None
    times = np.linspace(0, 14, 141)
    return times, double_gamma(times, planted_brain(planted_world(400)).hrf)


def export_files(
    student: TinyTribe, times: int, maps: Mapping[str, np.ndarray], folder: str | Path
) -> tuple[dict[str, Path], list[str]]:
    """Write the student as ONNX in fp32 and 8 bits, compare both with torch, and write its map as a page.

    Parameters
    ----------
    student : TinyTribe
    times : int
        Steps of a window.
    maps : mapping of str to ndarray
        See `moment_maps`.
    folder : str or Path

    Returns
    -------
    files : dict of Path
        Keys ``onnx``, ``onnx_int8`` and ``brain``.
    lines : list of str
        Size of each ONNX file and its difference from torch.
    """
    from nbkit.neuro.plots.brain import brain_view_html

    folder = Path(folder)
    whole = export_onnx(student, folder / "student.onnx", times)
    small = quantize(whole, folder / "student-int8.onnx")
    inputs = sample_inputs(student, times)
    lines = []
    for path in (whole, small):
        found = compare(student, path, inputs)
        lines.append(
            f"{path.name}: {found.bytes / 1e6:.1f} MB, r with torch {found.r:.6f}, at most {found.largest:.2g} z off"
        )
    page = folder / "brain.html"
    page.write_text(brain_view_html(maps["student"], "z", title="student"), encoding="utf-8")
    return {"onnx": whole, "onnx_int8": small, "brain": page}, lines


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "1", "baseline": baseline, "baseline_is": baseline_is}
