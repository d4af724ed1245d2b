"""Score a student on held-out responses.

Correlations are computed over time, per subject, over all held-out runs together, then averaged over subjects and over
outputs. A constant prediction counts as 0. Windows overlap by a lead-in, so that every scored step has its past.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nbkit.neuro.tribe.metrics import PearsonSums, ceiling_fraction, mean_r
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import TinyTribe

Predictor = Callable[[StimulusRun], np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Correlations on held-out runs.

    Attributes
    ----------
    r : ndarray of shape (outputs,)
        Mean over subjects; NaN for outputs without signal.
    by_subject : dict of ndarray of shape (outputs,)
        Correlations by subject number.
    ceiling : float or None
        Noise ceiling of r, if the runs have one.
    steps : int
        Number of scored steps over all runs.
    """

    r: np.ndarray = field(repr=False)
    by_subject: dict[int, np.ndarray] = field(repr=False)
    ceiling: float | None
    steps: int

    @property
    def mean(self) -> float:
        """Mean over outputs with signal; 0 if every output's prediction is constant."""
        value = mean_r(self.r)
        return 0.0 if value != value else value

    @property
    def of_ceiling(self) -> float:
        """Mean r divided by the noise ceiling; NaN if the ceiling is not known."""
        return float("nan") if self.ceiling is None else ceiling_fraction(self.r, self.ceiling)


def predict_run(
    student: TinyTribe,
    run: StimulusRun,
    times: int,
    *,
    subject: int | None = None,
    without: Sequence[str] = (),
    lead: int = 8,
) -> np.ndarray:
    """Predict a whole run, window by window.

    Parameters
    ----------
    student : TinyTribe
    run : StimulusRun
    times : int
        Steps of a window.
    subject : int, optional
        Subject number; by default that of the run. -1 is the mean subject.
    without : sequence of str
        Modalities to remove.
    lead : int
        Steps at the start of each window, except the first, whose predictions are dropped: they lack their past.

    Returns
    -------
    predicted : float32 array of shape (steps, outputs)
    """
    return _windows(student, run, times, subject, without, lead)[0]


def gates_of(student: TinyTribe, run: StimulusRun, times: int) -> np.ndarray:
    """Return the gates over a run, shape (steps, modalities)."""
    return _windows(student, run, times, None, (), 0)[1]


def _windows(
    student: TinyTribe, run: StimulusRun, times: int, subject: int | None, without: Sequence[str], lead: int
) -> tuple[np.ndarray, np.ndarray]:
    device = next(student.parameters()).device
    present = torch.tensor([bool(p) and m not in without for p, m in zip(run.present, MODALITIES, strict=True)])
    who = torch.tensor([run.subject if subject is None else subject], device=device)
    parts, gates, done = [], [], 0
    lead = min(lead, times - 1)
    was_training = student.training
    student.eval()
    with torch.no_grad():
        while done < len(run):
            begin = max(0, done - lead)
            part = slice(begin, begin + times)
            features = {m: torch.from_numpy(run.features[m][part])[None].float().to(device) for m in MODALITIES}
            said = student(features, who, present[None].to(device))
            parts.append(said.bold[0, done - begin :].float().cpu().numpy())
            gates.append(said.gates[0, done - begin :].float().cpu().numpy())
            done = min(begin + times, len(run))
    student.train(was_training)
    return np.concatenate(parts), np.concatenate(gates)


def student_predictor(student: TinyTribe, times: int, subject: int | None = None) -> Predictor:
    """Return a function that predicts a run with this student, for `score`."""
    return lambda run: predict_run(student, run, times, subject=subject)


def score(predictor: Predictor, runs: Sequence[StimulusRun], target: str = "bold") -> Scores:
    """Correlate predictions of runs with the measured responses or with the teacher's predictions.

    Parameters
    ----------
    predictor : callable
        Maps a run to predictions of shape (steps, outputs).
    runs : sequence of StimulusRun
        Held-out runs.
    target : {"bold", "teacher"}
        With "teacher", the result is the agreement with the teacher, not a score on brain data.

    Returns
    -------
    scores : Scores

    Raises
    ------
    ValueError
        If no run has the target, or a prediction has another shape.
    """
    having = [run for run in runs if getattr(run, target) is not None]
    if not having:
        raise ValueError(f"No target {target!r}: none of {len(runs)} runs has a {target}. Nothing was scored.")
    sums: dict[int, PearsonSums] = {}
    keep: dict[int, np.ndarray] = {}
    steps = 0
    for run in having:
        true = getattr(run, target)
        predicted = predictor(run)
        if predicted.shape != true.shape:
            raise ValueError(
                f"Run {run.name}: predicted {predicted.shape}, but {target} has {true.shape} (steps, outputs)."
            )
        valid = run.scored if target == "bold" else run.teacher_valid
        own = sums.setdefault(run.subject, PearsonSums(true.shape[1]))
        own.add(*(torch.from_numpy(np.asarray(values[valid], np.float64))[None] for values in (predicted, true)))
        kept = np.ones(true.shape[1], bool) if run.keep is None else run.keep
        keep[run.subject] = keep.get(run.subject, True) & kept
        steps += int(valid.sum())
    by_subject = {}
    for subject, own in sums.items():
        r = own.r().numpy()
        by_subject[subject] = np.where(keep[subject], np.nan_to_num(r), np.nan)
    stacked = np.stack(list(by_subject.values()))
    known = np.isfinite(stacked).sum(0)
    r = np.where(known > 0, np.nansum(stacked, 0) / np.maximum(known, 1), np.nan)
    ceilings = [run.ceiling for run in having if run.ceiling is not None]
    return Scores(r, by_subject, float(np.mean(ceilings)) if ceilings and target == "bold" else None, steps)


def milliseconds_per_second(predictor: Predictor, run: StimulusRun, repeats: int = 3) -> float:
    """Return the time to predict one second of stimulus from features, in ms: the best of some repeats."""
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        predictor(run)
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken[1:]) / (len(run) * run.step_s)


def modality_reliance(student: TinyTribe, runs: Sequence[StimulusRun], times: int) -> np.ndarray:
    """Compute how much held-out r each output loses if a modality is taken away.

    The whole student predicts again without the modality's features. A gate says less: all outputs share it, and what
    it lets through may not matter to an output.

    Parameters
    ----------
    student : TinyTribe
    runs : sequence of StimulusRun
        Held-out runs with responses.
    times : int
        Steps of a window.

    Returns
    -------
    loss : ndarray of shape (modalities, outputs)
        r with all modalities, minus r without the modality; NaN for a modality that no run has, or that is a run's only
        one, and for outputs without signal.
    """
    whole = score(student_predictor(student, times), runs).r
    loss = np.full((len(MODALITIES), len(whole)), np.nan)
    for number, modality in enumerate(MODALITIES):
        having = [run for run in runs if run.present[number] and run.present.sum() > 1]
        if having:
            full = whole if len(having) == len(runs) else score(student_predictor(student, times), having).r
            less = score(lambda run, m=modality: predict_run(student, run, times, without=(m,)), having).r
            loss[number] = full - less
    return loss


def impulse_response(student: TinyTribe, runs: Sequence[StimulusRun], times: int, lags: int = 12) -> np.ndarray:
    """Measure how much the prediction changes, lag by lag, if the features of one step are exchanged.

    Parameters
    ----------
    student : TinyTribe
    runs : sequence of StimulusRun
    times : int
        Steps of each run that are used.
    lags : int
        Number of steps after the change.

    Returns
    -------
    change : ndarray of shape (lags,)
        Root mean square over outputs, scaled to a maximum of 1; lag 0 comes first.
    """
    device = next(student.parameters()).device
    squares = np.zeros(lags)
    student.eval()
    with torch.no_grad():
        for run in runs:
            features = {m: torch.from_numpy(run.features[m][:times])[None].float().to(device) for m in MODALITIES}
            length = features["text"].shape[1]
            who = torch.tensor([run.subject], device=device)
            whole = student(features, who).bold[0]
            for at in range(0, length - lags + 1, 2):
                other = (at + length // 2) % length
                changed = {m: value.clone() for m, value in features.items()}
                for m in MODALITIES:
                    changed[m][:, at] = features[m][:, other]
                difference = student(changed, who).bold[0] - whole
                squares += difference[at : at + lags].square().mean(1).cpu().numpy()
    change = np.sqrt(squares)
    return change / max(change.max(), 1e-12)
