"""Labels between the stimuli that the teacher watched, for phase 2: the nearest moments' predictions, averaged.

A moment is described by the features of the seconds before it, because a response is late. Its label is the mean of the
teacher's predictions at the nearest moments of watched stimuli, weighted by 1 / distance. Such labels are no teacher:
they count in the loss only with a weight of their own (``weights.pseudo``), and `r_of_interpolation` says what they are
worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbkit.neuro.tribe.metrics import mean_r, pearson_over_time
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.stimuli.diversity import interpolate_labels
from nbkit.neuro.tribe.student.fusion import MODALITIES

PAST_S = (2.0, 10.0)  # s before a response whose features describe it
NEIGHBOURS = 8
MOST = 20_000  # moments to look among; of more, every n-th is used


def describe_moments(run: StimulusRun) -> np.ndarray:
    """Return the mean features before each step, shape (steps, dim); each modality has unit length, or zero."""
    first, last = (max(1, round(seconds / run.step_s)) for seconds in PAST_S)
    parts = []
    for name in MODALITIES:
        sums = np.cumsum(np.pad(run.features[name].astype(np.float64), ((last + 1, 0), (0, 0))), axis=0)
        means = sums[last + 1 - first :][: len(run)] - sums[: len(run)]  # steps t - last to t - first
        length = np.linalg.norm(means, axis=1, keepdims=True)
        parts.append(means / np.where(length > 0, length, 1.0))
    return np.concatenate(parts, axis=1)


def labels_between(
    without: Sequence[StimulusRun], taught: Sequence[StimulusRun], weight: float
) -> tuple[list[StimulusRun], list[dict[str, Any]]]:
    """Return the stimuli without a teacher, with labels interpolated from those with one, and what these are worth.

    Parameters
    ----------
    without : sequence of StimulusRun
        With features alone (see `unlabelled`).
    taught : sequence of StimulusRun
        Training runs with the teacher's predictions.
    weight : float
        Of such labels in the loss; at 0 there are none.

    Returns
    -------
    runs : list of StimulusRun
        Marked as ``pseudo``.
    rows : list of dict
        The result row ``r_interpolated`` (see `r_of_interpolation`).

    Raises
    ------
    ValueError
        If labels are wanted, and every stimulus has a teacher.
    """
    if not weight:
        return [], []
    if not without:
        raise ValueError(
            "Every stimulus with features was watched by the teacher, so no label can be interpolated. Set "
            "weights.pseudo to 0, or extract features of more stimuli (61_tribe_features)."
        )
    r = r_of_interpolation(taught)
    known, labels = _watched(taught)
    made = []
    for run in without:
        valid = np.arange(len(run)) * run.step_s >= PAST_S[1]
        made.append(replace(run, teacher=_label(run, known, labels), teacher_valid=valid, pseudo=True))
    print(f"interpolated labels: {len(made)} stimuli; on the teacher's own stimuli, left out in turn, r is {r:.3f}")
    row = {"name": "r_interpolated", "value": r, "unit": "1", "baseline": 0.0, "baseline_is": "mean response"}
    return made, [row]


def r_of_interpolation(taught: Sequence[StimulusRun]) -> float:
    """Return the mean r of interpolated labels with the teacher's own, each stimulus labelled from the others.

    Raises
    ------
    ValueError
        If the teacher watched fewer than two stimuli.
    """
    names = list(dict.fromkeys(run.name for run in taught))
    if len(names) < 2:
        raise ValueError(f"The teacher watched {names}; labels between stimuli need two. Set weights.pseudo to 0.")
    own = {run.name: _watched([run]) for run in taught}
    scores = []
    for name in names:
        known, labels = (np.concatenate([parts[k] for other, parts in own.items() if other != name]) for k in (0, 1))
        run = next(run for run in taught if run.name == name)
        scores.append(mean_r(pearson_over_time(_label(run, known, labels), run.teacher, run.teacher_valid)))
    return float(np.nanmean(scores))


def _watched(taught: Sequence[StimulusRun]) -> tuple[np.ndarray, np.ndarray]:
    """Return descriptors and predictions of all moments that the teacher covers."""
    known = np.concatenate([describe_moments(run)[run.teacher_valid] for run in taught])
    labels = np.concatenate([run.teacher[run.teacher_valid] for run in taught])
    every = -(-len(known) // MOST)
    return known[::every], labels[::every]


def _label(run: StimulusRun, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    both = np.concatenate([known, describe_moments(run)])
    found, _ = interpolate_labels(both, np.arange(len(known)), labels, NEIGHBOURS)
    return found[len(known) :].astype(np.float32)
