"""Results of notebook 65: folds, tables, maps of r and of one moment, and exported files.

Every score has a baseline. Agreement with the teacher is never reported as a score on brain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.imaging.hrf import double_gamma
from nbkit.neuro.signals.imaging.surfaces import VERTICES
from nbkit.neuro.tribe.export import compare, export_onnx, quantize, sample_inputs
from nbkit.neuro.tribe.fmri import FmriSettings
from nbkit.neuro.tribe.gather import Regions, planted_world
from nbkit.neuro.tribe.newcomer import features_before_subject
from nbkit.neuro.tribe.runs.runs import NOBODY, StimulusRun
from nbkit.neuro.tribe.scoring.evaluate import (
    Predictor,
    milliseconds_per_second,
    predict_run,
    score,
    student_predictor,
)
from nbkit.neuro.tribe.scoring.frame import BEFORE, STUDENT, Fold, encode_fold, folds_of, join_folds
from nbkit.neuro.tribe.scoring.refit import refit_student
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.scoring.table import Table, frame_rows
from nbkit.neuro.tribe.scoring.uncertainty import Encoding
from nbkit.neuro.tribe.stimuli.features import MODALITIES
from nbkit.neuro.tribe.stimuli.synthetic import planted_brain
from nbkit.neuro.tribe.student.student import TinyTribe

EXPORT = "export"
_SURFACES = tuple(2 * count for count in VERTICES.values())


@dataclass
class Evaluation:
    """The items of notebook 65: one for each fold, and one for the exported files.

    Parameters
    ----------
    student : TinyTribe
        Of phase 3.
    before : TinyTribe or None
        Of phase 2; it predicts the mean subject.
    train, held_out : sequence of StimulusRun
        The split of phase 3.
    settings : FmriSettings
    frame : FrameSettings
    regions : Regions
    folder : Path
        Where to write the exported files.
    start : Path or None
        Checkpoint that students of folds start from.
    """

    student: TinyTribe
    before: TinyTribe | None
    train: Sequence[StimulusRun]
    held_out: Sequence[StimulusRun]
    settings: FmriSettings
    frame: FrameSettings
    regions: Regions
    folder: Path
    start: Path | None = None
    folds: dict[str, Fold] = field(init=False)

    def __post_init__(self) -> None:
        self.folds = {fold.key: fold for fold in folds_of(self.train, self.held_out, self.frame)}

    def rows(self) -> list[dict[str, str]]:
        """Return the manifest rows."""
        return [*({"key": key} for key in self.folds), {"key": EXPORT}]

    def __call__(self, key: str) -> dict[str, Any]:
        """Return the results of an item: predictions of a fold, or files."""
        if key == EXPORT:
            maps = moment_maps(self.student, self.held_out[0], self.settings.times, self.regions)
            files, lines = export_files(self.student, self.settings.times, maps, Path(self.folder, EXPORT))
            print(*lines, sep="\n")
            return files
        return encode_fold(self.folds[key], self.frame, self._students)

    def _students(self, runs: list[StimulusRun], fresh: bool = False) -> tuple[dict[str, Predictor], Predictor]:
        """Return the predictors of a fold's students, and the first one's features for ridge regression.

        With ``fresh``, the student is trained on the runs even if phase 3 has trained one on the same stimuli.
        """
        times, student = self.settings.times, self.student
        if self.frame.time_folds or fresh:
            parcel, network = self.regions.parcel, self.regions.network
            student = refit_student(self.settings, runs, parcel, self.start, self.frame.seed, network)
        made = {STUDENT: student_predictor(student, times)}
        if self.before is not None and not self.frame.time_folds:
            made[BEFORE] = student_predictor(self.before, times, NOBODY)
        return made, lambda run: features_before_subject(student, run, times)

    def encoding(self, paths: Sequence[Path]) -> Encoding:
        """Return the predictions of all folds, from the stored items.

        Raises
        ------
        ValueError
            If a fold is missing.
        """
        stored = {path.name.removesuffix(".npz"): path for path in paths if path.suffix == ".npz"}
        missing = [key for key in self.folds if key not in stored]
        if missing:
            raise ValueError(f"{len(missing)} of {len(self.folds)} folds are not done ({missing[0]}, ...); run again.")
        arrays = []
        for key in self.folds:
            with np.load(stored[key], allow_pickle=False) as file:
                arrays.append({name: file[name] for name in file.files})
        return Encoding(join_folds(arrays), self.held_out[0].step_s)


def result_rows(
    table: Table,
    regions: Regions,
    held_out: Sequence[StimulusRun],
    student: TinyTribe,
    reliance: np.ndarray,
    times: int,
) -> list[dict[str, Any]]:
    """Return the scores as result rows, each with a baseline.

    Parameters
    ----------
    table : Table
        See `score_table`.
    regions : Regions
    held_out : sequence of StimulusRun
    student : TinyTribe
    reliance : ndarray of shape (modalities, outputs)
        See `modality_reliance`.
    times : int
        Steps of a window.

    Returns
    -------
    rows : list of dict
        Keys name, value, unit, baseline, baseline_is.
    """
    rows = frame_rows(table)
    mine, base = table.rows[STUDENT], table.rows[table.reference]
    for name in regions.masks:
        value = mine.regions[name].mean
        if np.isfinite(value):
            rows.append(_row(f"r_{name.replace(' ', '_')}", value, base.regions[name].mean, table.reference))
    taught = [run for run in held_out if run.teacher is not None]
    if taught:
        agreement = score(student_predictor(student, times, NOBODY), taught, "teacher").mean
        rows.append(_row("agreement_with_teacher", agreement, 0.0, "mean response"))
    if regions.names == MODALITIES:  # the synthetic world, in which one modality drives each output
        found = np.nan_to_num(reliance, nan=-np.inf).argmax(0) == regions.network
        rows.append(_row("right_modality", float(found.mean()), 1 / 3, "chance"))
    taken = milliseconds_per_second(student_predictor(student, times), held_out[0])
    rows.append({"name": "ms_per_second", "value": taken, "unit": "ms", "baseline": 1000.0, "baseline_is": "real time"})
    return rows


def region_scores(table: Table) -> tuple[dict[str, dict[str, tuple[float, float, float]]], dict[str, float] | None]:
    """Return (mean, low, high) of r by model and region, and the ceiling by region if it is known, for the figure."""
    scores = {
        name: {region: (one.mean, one.low, one.high) for region, one in row.regions.items()}
        for name, row in table.rows.items()
    }
    if table.ceiling is not None:
        return scores, {name: one.mean for name, one in table.ceiling.items()}
    if table.ceiling_r is None:
        return scores, None
    return scores, dict.fromkeys(table.rows[STUDENT].regions, float(np.nanmean(table.ceiling_r)))


def score_maps(table: Table, regions: Regions, model: str = STUDENT) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
    """Return the maps of a model's r and of its r over the ceiling, and the region of each vertex to outline.

    Returns
    -------
    maps, region : dict of ndarray of shape (vertices,), int array of shape (vertices,); or None
        None if the places of the outputs are not known.
    """
    if regions.on_surface is None:
        return None
    r = table.rows[model].r
    maps = {"r": regions.on_surface(r)}
    if table.ceiling_r is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            maps["r / ceiling"] = regions.on_surface(np.where(table.ceiling_r > 0.05, r / table.ceiling_r, np.nan))
    names, place = regions.outlined()
    outlined = regions.on_surface(np.where(place < 0, np.nan, place).astype(float))
    return maps, np.where(np.isfinite(outlined), outlined, -1).astype(int)


def moment_maps(student: TinyTribe, run: StimulusRun, times: int, regions: Regions) -> dict[str, np.ndarray]:
    """Return maps of one moment: the true response, the student's prediction, and the difference.

    They are on fsaverage, or by output if the places of the outputs are not known. The true response is the
    teacher's if there is one, else the fMRI. The moment is the step at which it is strongest.

    Returns
    -------
    maps : dict of str to ndarray
        Keys ``teacher`` or ``fMRI``, ``student`` and ``difference``.
    """
    name, true = ("teacher", run.teacher) if run.teacher is not None else ("fMRI", run.bold)
    said = predict_run(student, run, times, subject=NOBODY if run.teacher is not None else None)
    at = int(np.square(true).mean(1).argmax())
    maps = {name: true[at], "student": said[at], "difference": said[at] - true[at]}
    place = regions.on_surface
    return {key: value if place is None else place(value) for key, value in maps.items()}


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
        Keys ``onnx`` and ``onnx_int8``, and ``brain`` if the maps are on a surface.
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
    files = {"onnx": whole, "onnx_int8": small}
    if len(maps["student"]) in _SURFACES:
        files["brain"] = folder / "brain.html"
        files["brain"].write_text(brain_view_html(maps["student"], "z", title="student"), encoding="utf-8")
    return files, lines


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "1", "baseline": baseline, "baseline_is": baseline_is}
