"""What 65 says of a student: its scores beside what costs less, maps of one moment, and files to take away.

No score goes out without its baseline; agreement with the teacher is never called a score against brains.
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
    """Score the student, what costs less, and its agreement with the teacher where there is one.

    Parameters
    ----------
    before : TinyTribe
        The student of phase 2.
    train : sequence of StimulusRun
        What ridge and mean are fitted to.

    Returns
    -------
    scores : dict of Scores
        ``student``, then the baselines; ``teacher`` is the student's agreement with it.
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
    """Return the scores as results, each beside a baseline."""
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
    if regions.names == MODALITIES:  # the made-up world, whose outputs are each driven by one
        found = modality_reliance(student, held_out[:4], times).argmax(0) == regions.network
        rows.append(_row("right_modality", float(found.mean()), 1 / 3, "chance"))
    run = held_out[0]
    taken = milliseconds_per_second(student_predictor(student, times), run)
    rows.append({"name": "ms_per_second", "value": taken, "unit": "ms", "baseline": 1000.0, "baseline_is": "real time"})
    return rows


def moment_maps(student: TinyTribe, run: StimulusRun, times: int, regions: Regions) -> dict[str, np.ndarray]:
    """Return maps on fsaverage of one moment: what was to be told, what the student tells, and the difference.

    The moment is the step at which the first is strongest. It is the teacher's where there is one, else the fMRI.
    """
    name, true = ("teacher", run.teacher) if run.teacher is not None else ("fMRI", run.bold)
    said = predict_run(student, run, times, subject=NOBODY if run.teacher is not None else None)
    at = int(np.square(true).mean(1).argmax())
    maps = {name: true[at], "student": said[at], "difference": said[at] - true[at]}
    return {key: regions.on_surface(value) for key, value in maps.items()}


def planted_response(source: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the made-up world's response as (times in s, response); None where the world is not made up."""
    if source != "planted":
        return None
    times = np.linspace(0, 14, 141)
    return times, double_gamma(times, planted_brain(planted_world(400)).hrf)


def export_files(
    student: TinyTribe, times: int, maps: Mapping[str, np.ndarray], folder: str | Path
) -> tuple[dict[str, Path], list[str]]:
    """Write the student as ONNX in fp32 and 8 bits, and its map as a page to turn; check the first two beside torch.

    Returns
    -------
    files : dict of Path
    lines : list of str
        Size and difference to torch of each file.
    """
    from nbkit.neuro.plots.brain import brain_view_html

    folder = Path(folder)
    whole = export_onnx(student, folder / "student.onnx", times)
    small = quantize(whole, folder / "student-int8.onnx")
    inputs = sample_inputs(student, times)
    lines = []
    for path in (whole, small):
        found = compare(student, path, inputs)
        lines.append(f"{path.name}: {found.bytes / 1e6:.1f} MB, r with torch {found.r:.6f}, most {found.largest:.2g} z")
    page = folder / "brain.html"
    page.write_text(brain_view_html(maps["student"], "z", title="student"), encoding="utf-8")
    return {"onnx": whole, "onnx_int8": small, "brain": page}, lines


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "1", "baseline": baseline, "baseline_is": baseline_is}
