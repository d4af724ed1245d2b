"""Long runs cut into blocks of time, so that one stimulus can be split into training and held-out time.

Each block begins with a lead-in: the stimulus before the block, whose responses count in no loss and no score. So the
first scored step has its past, and no response is in two blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbkit.neuro.tribe.runs.runs import NOBODY, StimulusRun

_TIMED = ("teacher", "teacher_valid", "fusion", "fusion_valid", "bold", "low", "response", "given")


def cut_in_time(run: StimulusRun, blocks: int, lead_s: float = 16.0) -> list[StimulusRun]:
    """Cut a run into blocks of equal length.

    Parameters
    ----------
    run : StimulusRun
    blocks : int
        Number of blocks; 1 returns the run itself.
    lead_s : float
        Stimulus before a block that belongs to it, in s.

    Returns
    -------
    runs : list of StimulusRun
        Named ``<stimulus>@<k>of<blocks>``, with ``bold_valid`` False in the lead-in.

    Raises
    ------
    ValueError
        If a block would be shorter than 10 steps.
    """
    if blocks == 1:
        return [run]
    edges = np.linspace(0, len(run), blocks + 1).astype(int)
    if blocks < 1 or np.diff(edges).min() < 10:
        raise ValueError(
            f"{run.name} has {len(run)} steps: {blocks} blocks would have {len(run) // max(1, blocks)} each, and 10 is "
            "the least. Use fewer."
        )
    lead = int(np.ceil(lead_s / run.step_s))
    made = []
    for number, (start, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        begin = max(0, start - lead)
        part = slice(begin, end)
        scored = run.scored[part].copy()
        scored[: start - begin] = False
        timed = {name: getattr(run, name)[part] for name in _TIMED if getattr(run, name) is not None}
        if "teacher_valid" in timed:
            timed["teacher_valid"] = timed["teacher_valid"] & scored
        features = {name: values[part] for name, values in run.features.items()}
        name = f"{run.name}@{number + 1}of{blocks}"
        made.append(replace(run, name=name, features=features, bold_valid=scored, **timed))
    return made


def mean_subject(runs: Sequence[StimulusRun]) -> list[StimulusRun]:
    """Return one run for each stimulus: the mean response of the subjects that share it, in z units.

    A model for people who were not in the training is fitted to these.
    """
    made = []
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        length = min(map(len, own))
        if len(own) == 1:
            made.append(replace(own[0], subject=NOBODY))
            continue
        mean = np.mean([run.bold[:length] for run in own], axis=0)
        spread = mean.std(0)
        keep = np.all([np.ones(mean.shape[1], bool) if run.keep is None else run.keep for run in own], axis=0)
        whole = max(own, key=len)
        valid = np.pad(np.all([run.scored[:length] for run in own], axis=0), (0, len(whole) - length))
        bold = np.pad(mean / np.where(spread > 0, spread, 1.0), ((0, len(whole) - length), (0, 0)))
        made.append(replace(whole, bold=bold.astype(np.float32), bold_valid=valid, keep=keep, subject=NOBODY))
    return made
