"""The noise ceiling of runs whose stimulus the same subject saw more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbkit.neuro.tribe.metrics import noise_ceiling
from nbkit.neuro.tribe.runs.runs import StimulusRun


def with_ceilings(runs: Sequence[StimulusRun]) -> list[StimulusRun]:
    """Return the runs with a noise ceiling where a subject has several of one stimulus.

    The ceiling is the mean over outputs with signal; an output whose repeats do not correlate above zero counts as 0.
    A ceiling that came with the data stays, and a stimulus seen once has none.

    Parameters
    ----------
    runs : sequence of StimulusRun

    Returns
    -------
    runs : list of StimulusRun
        In the same order. Where nothing is repeated, the ceiling is left to the correlation between subjects.
    """
    places = defaultdict(list)
    for number, run in enumerate(runs):
        if run.bold is not None and run.ceiling is None:
            places[run.name, run.subject].append(number)
    made = list(runs)
    for same in places.values():
        if len(same) < 2:
            continue
        own = [runs[number] for number in same]
        length = min(map(len, own))
        scored = np.all([run.scored[:length] for run in own], axis=0)
        keep = np.all([np.ones(run.bold.shape[1], bool) if run.keep is None else run.keep for run in own], axis=0)
        repeats = np.stack([run.bold[:length][scored][:, keep] for run in own])
        ceiling = float(np.nan_to_num(noise_ceiling(repeats)).mean()) if keep.any() else 0.0
        for number in same:
            made[number] = replace(runs[number], ceiling=ceiling)
    return made
