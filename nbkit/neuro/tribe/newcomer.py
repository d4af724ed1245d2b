"""Add a subject to a trained student by fitting two vectors; all other weights stay unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import TinyTribe
from nbkit.neuro.tribe.student.subjects import fit_subject


def add_subject(student: TinyTribe, runs: Sequence[StimulusRun], times: int, ridge: float = 0.1) -> int:
    """Fit the scale and shift of a new subject to its runs and add them to the student.

    Only these 2 x dim numbers are fitted; every other weight stays the same, bit for bit.

    Parameters
    ----------
    student : TinyTribe
    runs : sequence of StimulusRun
        Runs of the new subject, with responses.
    times : int
        Steps of a window.
    ridge : float
        Strength of the regularisation towards the mean subject (see `fit_subject`).

    Returns
    -------
    subject : int
        Number of the new subject.

    Raises
    ------
    ValueError
        If no run has responses.
    """
    if student.settings.gate_networks > 1:
        raise ValueError(
            f"This student has gates for {student.settings.gate_networks} networks, and a new subject is fitted to one "
            "set of features. Use a student with gate_networks=1, or train phase 3 on the new subject."
        )
    having = [run for run in runs if run.bold is not None]
    if not having:
        raise ValueError(
            f"No responses: none of {len(runs)} runs has responses. No subject was added; give runs with fMRI."
        )
    keep = np.ones(student.settings.n_vertices, bool)
    for run in having:
        keep &= True if run.keep is None else run.keep
    alive = torch.from_numpy(keep)
    weight = student.vertices.weight.detach().float().cpu() * alive[:, None]
    batches = []
    for run in having:
        features = torch.from_numpy(features_before_subject(student, run, times))
        bold = torch.from_numpy(run.bold).float() * alive
        batches.append((features, bold, torch.ones(len(run), dtype=torch.bool)))
    film = student.film
    gamma, beta = fit_subject(batches, weight, film.gamma.mean(0), film.beta.mean(0), ridge)
    return film.add(gamma, beta)


def features_before_subject(student: TinyTribe, run: StimulusRun, times: int, lead: int = 8) -> np.ndarray:
    """Return the features that a subject's scale and shift are applied to, over a whole run.

    Returns
    -------
    features : ndarray of shape (steps, dim)
        With gates for several networks, those of all networks side by side: (steps, networks * dim).
    """
    device = next(student.parameters()).device
    present = torch.from_numpy(np.asarray(run.present, bool))[None].to(device)
    parts, done, lead = [], 0, min(lead, times - 1)
    student.eval()
    with torch.no_grad():
        while done < len(run):
            begin = max(0, done - lead)
            part = slice(begin, begin + times)
            features = {m: torch.from_numpy(run.features[m][part])[None].float().to(device) for m in MODALITIES}
            pooled, _ = student.pooling(student.trunk(features, present)[0])
            each = [student.response(pooled[:, :, number]) for number in range(pooled.shape[2])]
            parts.append(torch.cat(each, dim=-1)[0, done - begin :].float().cpu().numpy())
            done = min(begin + times, len(run))
    return np.concatenate(parts)
