"""One stimulus on the scanner's grid, with the teacher's prediction and a subject's fMRI.

All arrays of a run have the same number of steps. Missing data are None, never zeros, which a loss would use as
targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.stand_in import is_made_up
from nbkit.neuro.signals.imaging.atlas import Atlas
from nbkit.neuro.signals.imaging.bold import at_times, teacher_on_clock
from nbkit.neuro.signals.imaging.hrf import convolve_hrf
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

NOBODY = -1  # number of the mean subject


@dataclass(frozen=True)
class StimulusRun:
    """One stimulus with the data of one subject or of the teacher.

    Attributes
    ----------
    name : str
        Name of the stimulus; a split never separates runs of the same name.
    step_s : float
        Length of a step, in s.
    features : dict of ndarray of shape (steps, dim)
        Keys text, audio and video.
    present : bool array of shape (3,)
        Modalities that exist.
    teacher, fusion : ndarray of shape (steps, outputs) and (steps, 1152), or None
        Predictions, delayed to the time of measurement; features of the teacher's fourth block, without delay.
    teacher_valid, fusion_valid : bool array of shape (steps,), or None
        Steps that the teacher covers.
    bold : ndarray of shape (steps, outputs), or None
        fMRI, in z units.
    bold_valid : bool array of shape (steps,), or None
        Steps that count in losses and scores; None for all.
    keep : bool array of shape (outputs,), or None
        Outputs with signal.
    low : ndarray of shape (steps, regressors), or None
        Low-level regressors of the stimulus, such as the word rate (see `low_level`), and their names.
    response : ndarray of shape (steps, regressors), or None
        The low-level regressors under SPM's haemodynamic response, convolved at 2 Hz.
    given : ndarray of shape (steps, regressors), or None
        Regressors that came with the fMRI, already under a haemodynamic response.
    subject : int
        Subject number; -1 is the mean subject.
    weight : float
        Weight of the run in a loss.
    pseudo : bool
        Whether ``teacher`` holds pseudo-labels of an earlier student.
    ceiling : float or None
        Noise ceiling of r, if known.
    data : str
        "real", or the description of synthetic data.
    raw : mapping of str to ndarray of shape (steps, ...)
        Log-mel frames and pictures of each step, if backbones are trained (see `nbkit.neuro.tribe.readers.unfrozen`).
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
    bold_valid: np.ndarray | None = field(default=None, repr=False)
    keep: np.ndarray | None = field(default=None, repr=False)
    low: np.ndarray | None = field(default=None, repr=False)
    low_names: tuple[str, ...] = ()
    response: np.ndarray | None = field(default=None, repr=False)
    given: np.ndarray | None = field(default=None, repr=False)
    given_names: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    subject: int = NOBODY
    weight: float = 1.0
    pseudo: bool = False
    ceiling: float | None = None
    data: str = "real"
    raw: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.features["text"])

    @property
    def scored(self) -> np.ndarray:
        """Steps with a response that counts, bool of shape (steps,)."""
        return np.ones(len(self), bool) if self.bold_valid is None else self.bold_valid


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
    """Combine features, teacher predictions and fMRI of a stimulus on one grid.

    Parameters
    ----------
    features : mapping
        Features at 2 Hz, as returned by `read_features`.
    step_s : float
        Step of the grid, in s; 0.5 keeps the features as they are.
    segment : Segment, optional
        All segments of the teacher for the stimulus, joined.
    fmri : FmriRun, optional
        Its TR must be that of the grid.
    subject : int
        Subject number.
    n_outputs, atlas
        Outputs of teacher and fMRI (see `to_outputs`).
    weight : float
        Weight of the run in a loss.
    without : sequence of str
        Modalities that the subject did not have, such as video for a story that was only heard.
    pseudo : bool
        Whether the segment holds pseudo-labels.

    Returns
    -------
    run : StimulusRun

    Raises
    ------
    ValueError
        If teacher or fMRI belong to another stimulus or grid.
    """
    name = str(features["video_id"])
    n_steps = grid_steps(float(features["duration_s"]), step_s)
    made: dict[str, Any] = {}
    if fmri is not None:
        if fmri.video_id != name:
            raise ValueError(f"The fMRI of the stimulus {fmri.video_id!r} was given for {name!r}; give its own run.")
        if abs(fmri.tr - step_s) > 1e-6:
            raise ValueError(f"The fMRI has a TR of {fmri.tr:g} s for a grid of {step_s:g} s; set step_s to the TR.")
        fmri = fmri.to_outputs(n_outputs or fmri.fmri.shape[1], atlas)
        n_steps = min(n_steps, len(fmri.fmri))
        made |= {"bold": fmri.fmri[:n_steps], "keep": fmri.keep, "ceiling": fmri.ceiling, "outputs": fmri.outputs}
        if fmri.valid is not None:
            made["bold_valid"] = fmri.valid[:n_steps]
        if fmri.given is not None:
            made |= {"given": fmri.given[:n_steps], "given_names": fmri.given_names}
    if segment is not None:
        if segment.video_id != name:
            raise ValueError(f"Teacher segments of {segment.video_id!r} were given for {name!r}; give its own.")
        predictions = segment.predictions.float().numpy()
        predictions = np.nan_to_num(to_outputs(predictions, n_outputs or predictions.shape[1], atlas))
        first = segment.tr_start
        made["teacher"], made["teacher_valid"] = teacher_on_clock(
            predictions, step_s, n_steps, teacher_tr=TEACHER_TR, first_row=first
        )
        if segment.fusion_l4 is not None:
            made["fusion"], made["fusion_valid"] = teacher_on_clock(
                segment.fusion_l4.float().numpy(), step_s, n_steps, teacher_tr=TEACHER_TR, offset_s=0.0, first_row=first
            )
    there = np.asarray(features["present"], bool) & [modality not in without for modality in MODALITIES]
    grid = {modality: features_on_grid(features[modality], FEATURE_HZ, step_s, n_steps) for modality in MODALITIES}
    if "low" in features:
        made |= {
            "low": features_on_grid(features["low"], FEATURE_HZ, step_s, n_steps),
            "low_names": tuple(map(str, features["low_names"])),
            "response": _under_response(features["low"], step_s, n_steps),
        }
    data = origin(str(features.get("data", "real")), "" if fmri is None else fmri.data)
    return StimulusRun(name, step_s, grid, there, subject=subject, weight=weight, pseudo=pseudo, data=data, **made)


def origin(stimuli: str, fmri: str) -> str:
    """Return the label of a run whose stimuli or fMRI are made up: it says which part is.

    Parameters
    ----------
    stimuli, fmri : str
        "real" or a description of synthetic data; "" without fMRI.

    Examples
    --------
    >>> origin("real", "real"), origin("synthetic stand-in: planted", "real"), origin("real", "synthetic stand-in")
    ('real', 'made-up stimuli; the fMRI is recorded', 'made-up fMRI; the stimuli are real')
    """
    if not fmri or is_made_up(stimuli) == is_made_up(fmri):
        return stimuli
    return "made-up stimuli; the fMRI is recorded" if is_made_up(stimuli) else "made-up fMRI; the stimuli are real"


def _under_response(low: np.ndarray, step_s: float, n_steps: int) -> np.ndarray:
    """Return regressors under SPM's response at the times of the steps; convolved first, the rate of 2 Hz counts."""
    rest_s = max(0.0, n_steps * step_s - len(low) / FEATURE_HZ) + 1.0
    fine = convolve_hrf(np.asarray(low, np.float64), 1 / FEATURE_HZ, after_s=rest_s)
    return at_times(fine, 1 / FEATURE_HZ, np.arange(n_steps) * step_s).astype(np.float32)


def stored_runs(
    feature_paths: Sequence[Path],
    segment_paths: Sequence[Path] = (),
    *,
    step_s: float = 1 / FEATURE_HZ,
    n_outputs: int | None = None,
    atlas: Atlas | None = None,
) -> list[StimulusRun]:
    """Return one run per features file, in the order of file names, with teacher predictions if segments are given.

    If segments are given, stimuli without segments are left out.

    Parameters
    ----------
    feature_paths, segment_paths : sequence of Path
    step_s : float
        Step of the grid, in s.
    n_outputs, atlas
        See `to_outputs`.

    Returns
    -------
    runs : list of StimulusRun

    Raises
    ------
    ValueError
        If a file is damaged, or no stimulus has both.
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
            f"The {len(feature_paths)} features files and the segments of {len(segments)} stimuli have no stimulus in "
            "common; run tribe_teacher and tribe_features on the same videos."
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
    """Return runs of a synthetic world with known truth: one per stimulus, or one per stimulus and subject.

    Parameters
    ----------
    settings : SyntheticSettings
    stimuli : sequence of int
        Numbers of the stimuli.
    step_s : float, optional
        Step of the grid, in s; by default the TR of the synthetic fMRI.
    subjects : sequence of int
        Subjects with fMRI; by default only the mean subject, without fMRI.
    teacher : bool
        Whether to add teacher predictions.

    Returns
    -------
    runs : list of StimulusRun
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
    runs: Sequence[StimulusRun],
    val_fraction: float = 0.2,
    seed: int = 2025,
    val_prefix: str = "",
    seen: Collection[str] = (),
) -> tuple[list[StimulusRun], list[StimulusRun]]:
    """Split runs so that no stimulus is on both sides.

    Parameters
    ----------
    runs : sequence of StimulusRun
    val_fraction : float
        Share of the stimuli for validation, drawn by name.
    seed : int
        Seed of the draw.
    val_prefix : str
        If not empty, stimuli whose names begin with it are the validation: a season, such as ``"s06"``.
    seen : collection of str
        Stimuli that an earlier phase was trained on; none of them is held out.

    Returns
    -------
    train, val : list of StimulusRun

    Raises
    ------
    ValueError
        If no stimulus begins with ``val_prefix``, or an earlier phase was trained on what should be held out.
    """
    from nbkit.neuro.signals.splits import split_by_subject

    named = None
    fresh = sorted({run.name for run in runs if stimulus_of(run.name) not in seen})
    if val_prefix:
        named = sorted({run.name for run in runs if run.name.startswith(val_prefix)})
        if not named:
            raise ValueError(
                f"For validation, no stimulus begins with {val_prefix!r}; there are "
                f"{sorted({r.name for r in runs})[:5]} ..."
            )
        known = sorted(set(named) - set(fresh))
        if known:
            raise ValueError(
                f"The phase before was trained on {len(known)} of {len(named)} stimuli that begin with {val_prefix!r} "
                f"({known[0]}, ...), so a score on them would not be held out. Train it with the same VAL_PREFIX."
            )
    elif seen:
        if not fresh:
            raise ValueError(
                f"The phase before was trained on all {len({r.name for r in runs})} stimuli, so none can be held out. "
                "Set the same VAL_PREFIX in all phases, or train the phase before on fewer."
            )
        count = min(max(1, round(val_fraction * len({run.name for run in runs}))), len(fresh))
        named = sorted(fresh, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:count]
    rows = [{"subject": run.name, "run": run} for run in runs]
    train, val = split_by_subject(rows, val_fraction, seed, named)
    return [row["run"] for row in train], [row["run"] for row in val]


def stimulus_of(name: str) -> str:
    """Return the stimulus of a run's name, which may be a block of it (see `cut_in_time`)."""
    return name.partition("@")[0]


def data_of(runs: Sequence[StimulusRun]) -> str:
    """Return the origin of the runs' data: "real", or the description of synthetic data."""
    return "; ".join(sorted({run.data or "real" for run in runs})) or STAND_IN


def _in_memory(video_id: str, said: Mapping[str, np.ndarray]) -> Segment:
    import torch

    arrays = {key: torch.as_tensor(value) for key, value in said.items()}
    return Segment("planted", video_id, 0, len(arrays["predictions"]), **arrays)
