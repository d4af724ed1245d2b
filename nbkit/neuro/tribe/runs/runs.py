"""A stimulus on the scanner's grid, with what a teacher said of it and what a subject's brain did.

Everything of a run has the same number of steps. What there is nothing of is None, never zeros that a loss would
believe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.imaging.atlas import Atlas
from nbkit.neuro.signals.imaging.bold import teacher_on_clock
from nbkit.neuro.tribe.runs.clock import features_on_grid, grid_steps
from nbkit.neuro.tribe.runs.targets import FmriRun, run_of, to_outputs
from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, MODALITIES, read_features
from nbkit.neuro.tribe.stimuli.segments import TEACHER_TR, Segment, join_segments, read_segment, segments_by_video
from nbkit.neuro.tribe.stimuli.synthetic import (
    STAND_IN,
    SyntheticSettings,
    SyntheticTeacher,
    synthetic_fmri,
    synthetic_stimulus,
)

NOBODY = -1  # the mean subject


@dataclass(frozen=True)
class StimulusRun:
    """Hold one stimulus as one subject met it, or as the teacher speaks of it.

    Attributes
    ----------
    name : str
        The stimulus; runs of one name are never on both sides of a split.
    step_s : float
        Seconds a step.
    features : dict of ndarray of shape (steps, dim)
        text, audio and video.
    present : bool array of shape (3,)
        Which of them there are.
    teacher, fusion : ndarray of shape (steps, outputs) and (steps, 1152), or None
        Predictions delayed to when the response is measured; features of its fourth block at the stimulus's own time.
    teacher_valid, fusion_valid : bool array of shape (steps,), or None
    bold : ndarray of shape (steps, outputs), or None
        z units.
    keep : bool array of shape (outputs,), or None
        Outputs with signal.
    subject : int
        -1 is the mean subject.
    weight : float
        How much the run counts in a loss.
    pseudo : bool
        Whether ``teacher`` is an earlier student.
    ceiling : float or None
    data : str
    """

    name: str
    step_s: float
    features: dict[str, np.ndarray] = field(repr=False)
    present: np.ndarray
    teacher: np.ndarray | None = field(default=None, repr=False)
    teacher_valid: np.ndarray | None = field(default=None, repr=False)
    fusion: np.ndarray | None = field(default=None, repr=False)
    fusion_valid: np.ndarray | None = field(default=None, repr=False)
    bold: np.ndarray | None = field(default=None, repr=False)
    keep: np.ndarray | None = field(default=None, repr=False)
    subject: int = NOBODY
    weight: float = 1.0
    pseudo: bool = False
    ceiling: float | None = None
    data: str = "real"

    def __len__(self) -> int:
        return len(self.features["text"])


def make_stimulus_run(
    features: Mapping[str, Any],
    step_s: float = 1 / FEATURE_HZ,
    *,
    segment: Segment | None = None,
    fmri: FmriRun | None = None,
    subject: int = NOBODY,
    n_outputs: int | None = None,
    atlas: Atlas | None = None,
    weight: float = 1.0,
    without: Sequence[str] = (),
    pseudo: bool = False,
) -> StimulusRun:
    """Bring a stimulus, its teacher and a subject's fMRI to one grid.

    Parameters
    ----------
    features : mapping
        As `read_features` gives them, at 2 Hz.
    step_s : float
        Of the grid, in s; 0.5 keeps the features as they are.
    segment : Segment, optional
        All that the teacher said of it, joined.
    fmri : FmriRun, optional
        Its TR must be the grid's.
    subject : int
    n_outputs, atlas
        What teacher and fMRI are brought to (see `to_outputs`).
    weight : float
    without : sequence of str
        Modalities the subject did not have, such as video for a story that was only heard.

    Raises
    ------
    ValueError
        If teacher or fMRI is of another stimulus or grid.
    """
    name = str(features["video_id"])
    n_steps = grid_steps(float(features["duration_s"]), step_s)
    made: dict[str, Any] = {}
    if fmri is not None:
        if fmri.video_id != name:
            raise ValueError(f"fMRI of the stimulus {fmri.video_id!r} was given for {name!r}; give its own run.")
        if abs(fmri.tr - step_s) > 1e-6:
            raise ValueError(f"fMRI at a TR of {fmri.tr:g} s for a grid of {step_s:g} s; make the grid the fMRI's.")
        fmri = fmri.to_outputs(n_outputs or fmri.fmri.shape[1], atlas)
        n_steps = min(n_steps, len(fmri.fmri))
        made |= {"bold": fmri.fmri[:n_steps], "keep": fmri.keep, "ceiling": fmri.ceiling}
    if segment is not None:
        if segment.video_id != name:
            raise ValueError(f"teacher segments of {segment.video_id!r} were given for {name!r}; give its own.")
        predictions = segment.predictions.float().numpy()
        predictions = np.nan_to_num(to_outputs(predictions, n_outputs or predictions.shape[1], atlas))
        first = segment.tr_start
        made["teacher"], made["teacher_valid"] = teacher_on_clock(
            predictions, step_s, n_steps, teacher_tr=TEACHER_TR, first_row=first
        )
        made["fusion"], made["fusion_valid"] = teacher_on_clock(
            segment.fusion_l4.float().numpy(), step_s, n_steps, teacher_tr=TEACHER_TR, offset_s=0.0, first_row=first
        )
    there = np.asarray(features["present"], bool) & [modality not in without for modality in MODALITIES]
    grid = {modality: features_on_grid(features[modality], FEATURE_HZ, step_s, n_steps) for modality in MODALITIES}
    data = str(features.get("data", "real"))
    return StimulusRun(name, step_s, grid, there, subject=subject, weight=weight, pseudo=pseudo, data=data, **made)


def stored_runs(
    feature_paths: Sequence[Path],
    segment_paths: Sequence[Path] = (),
    *,
    step_s: float = 1 / FEATURE_HZ,
    n_outputs: int | None = None,
    atlas: Atlas | None = None,
) -> list[StimulusRun]:
    """Return one run a features file, with the teacher's word where segments are given; in the order of their names.

    Stimuli without segments are left out where segments are given at all.

    Raises
    ------
    ValueError
        If a file is damaged or no stimulus has both.
    """
    segments = segments_by_video(segment_paths)
    runs = []
    for path in sorted(map(Path, feature_paths), key=lambda path: path.name):
        features = read_features(path)
        own = segments.get(features["video_id"])
        if segments and not own:
            continue
        joined = join_segments([read_segment(one) for one in own]) if own else None
        runs.append(make_stimulus_run(features, step_s, segment=joined, n_outputs=n_outputs, atlas=atlas))
    if not runs:
        raise ValueError(
            f"{len(feature_paths)} features files and segments of {len(segments)} stimuli have no stimulus in common; "
            "run tribe_teacher and tribe_features on the same videos."
        )
    return runs


def planted_runs(
    settings: SyntheticSettings,
    stimuli: Sequence[int],
    *,
    step_s: float | None = None,
    subjects: Sequence[int] = (),
    teacher: bool = True,
) -> list[StimulusRun]:
    """Return runs of a made-up world whose truth is known; one a stimulus, or one a stimulus and subject.

    Parameters
    ----------
    settings : SyntheticSettings
    stimuli : sequence of int
    step_s : float, optional
        The grid; the made-up fMRI's TR where not given.
    subjects : sequence of int
        Whose fMRI to make; none for the mean subject without fMRI. A subject's number is its place in the student.
    teacher : bool
    """
    step_s = settings.tr if step_s is None else step_s
    runs = []
    for index in stimuli:
        features = synthetic_stimulus(settings, index)
        segment = None
        if teacher:
            said = SyntheticTeacher(settings).predict(features)
            segment = _in_memory(str(features["video_id"]), said)
        runs.extend(
            make_stimulus_run(
                features, step_s, segment=segment, subject=subject,
                fmri=None if subject == NOBODY else run_of(synthetic_fmri(settings, subject, features)),
            )
            for subject in (subjects or [NOBODY])
        )  # fmt: skip
    return runs


def split_runs(
    runs: Sequence[StimulusRun], val_fraction: float = 0.2, seed: int = 2025, val_prefix: str = ""
) -> tuple[list[StimulusRun], list[StimulusRun]]:
    """Split runs so that no stimulus is on both sides.

    Parameters
    ----------
    val_fraction, seed : float, int
        Share of the stimuli to validate on, drawn by their names.
    val_prefix : str
        Stimuli whose names begin so are the validation instead: a season, such as ``"s06"``.
    """
    from nbkit.neuro.signals.splits import split_by_subject

    named = None
    if val_prefix:
        named = sorted({run.name for run in runs if run.name.startswith(val_prefix)})
        if not named:
            raise ValueError(
                f"no stimulus begins with {val_prefix!r}; there are {sorted({r.name for r in runs})[:5]} ..."
            )
    rows = [{"subject": run.name, "run": run} for run in runs]
    train, val = split_by_subject(rows, val_fraction, seed, named)
    return [row["run"] for row in train], [row["run"] for row in val]


def data_of(runs: Sequence[StimulusRun]) -> str:
    """Say what the runs are made of: "real", or what stands in."""
    return "; ".join(sorted({run.data or "real" for run in runs})) or STAND_IN


def _in_memory(video_id: str, said: Mapping[str, np.ndarray]) -> Segment:
    import torch

    arrays = {key: torch.as_tensor(value) for key, value in said.items()}
    return Segment("planted", video_id, 0, len(arrays["predictions"]), **arrays)
