"""When each step of a plan begins, which steps nothing may delay, and what to do after the sprint.

A step waits for those that make what it reads, and for a free GPU. Inference can be spread over all GPUs of a host, as
sessions share the items; a training runs on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbkit.neuro.tribe.planner import Estimate, Host

SPRINT_R = 0.22  # r on held-out data that a sprint must exceed before a full run
# steps that a step waits for, of those that a plan has
_AFTER = {
    "teacher": (),
    "features": (),
    "pretrain": ("features",),
    "distill": ("teacher", "features", "pretrain"),
    "fmri": ("teacher", "features", "distill"),
}
_SPREAD = ("teacher", "features")


@dataclass(frozen=True)
class Span:
    """A step with its begin and end, in weeks from the start.

    Attributes
    ----------
    name : str
    begin, end : float
    critical : bool
        Whether a delay of the step delays the end of the plan.
    """

    name: str
    begin: float
    end: float
    critical: bool


def timeline(rows: Sequence[Estimate], host: Host | None = None) -> list[Span]:
    """Return the spans of a plan's steps.

    Steps share the host's weekly hours, so those of one account run one after the other; with several GPUs, steps that
    do not wait for each other run side by side, and inference is divided among those that are free.

    Parameters
    ----------
    rows : sequence of Estimate
        See `plan`; the total is left out.
    host : Host, optional

    Returns
    -------
    spans : list of Span
        In the order of their begins.

    Raises
    ------
    ValueError
        If a step is unknown.
    """
    host = host or Host()
    steps = {row.name: row for row in rows[:-1]}
    unknown = sorted(set(steps) - set(_AFTER))
    if unknown:
        raise ValueError(f"There is no step {', '.join(unknown)}; a time-line has {', '.join(_AFTER)}.")
    begin: dict[str, float] = {}
    end: dict[str, float] = {}
    for name in [one for one in _AFTER if one in steps]:
        ready = max((end[other] for other in _AFTER[name] if other in end), default=0.0)
        beside = [other for other in begin if end[other] > ready + 1e-12]  # still running then
        if len(beside) >= host.gpus:
            ready = sorted(end[other] for other in beside)[len(beside) - host.gpus]
            beside = [other for other in beside if end[other] > ready + 1e-12]
        weeks = steps[name].gpu_hours / host.weekly_hours
        # with a GPU for each of the two kinds of inference, both get half of all
        alone = name not in _SPREAD or host.gpus == 1
        share = 1 if alone else max(1, host.gpus // 2 if all(one in steps for one in _SPREAD) else host.gpus)
        begin[name], end[name] = ready, ready + weeks / share
    last = max(end.values())
    critical: set[str] = set()
    waiting = [name for name in end if abs(end[name] - last) < 1e-9]
    while waiting:
        name = waiting.pop()
        critical.add(name)
        waiting.extend(other for other in end if other not in critical and abs(end[other] - begin[name]) < 1e-9)
    return sorted((Span(n, begin[n], end[n], n in critical) for n in begin), key=lambda span: (span.begin, span.end))


def timeline_lines(spans: Sequence[Span], width: int = 48) -> list[str]:
    """Return a time-line as text, one bar for each step; ``#`` for steps of the critical path."""
    last = max(span.end for span in spans) or 1.0
    lines = [f"weeks 0 to {last:.2g}; # is the critical path: a delay there delays the end"]
    for span in spans:
        first, stop = (round(width * at / last) for at in (span.begin, span.end))
        bar = " " * first + ("#" if span.critical else "-") * max(1, stop - first)
        lines.append(f"{span.name:10} |{bar:<{width + 1}}| {span.begin:.2f} to {span.end:.2f}")
    return lines


def next_steps(history: Sequence[Mapping[str, Any]], needed: float = SPRINT_R) -> list[str]:
    """Return what to do after a sprint, as lines of text, from the last r on held-out data in its history."""
    found = [float(row["val_r"]) for row in history if row.get("val_r") is not None]
    if not found:
        return ["Nothing was validated yet, so the sprint's gate cannot be judged: run this notebook again."]
    r = found[-1]
    if r > needed:
        return [f"r = {r:.3f} is above the gate of {needed:g}: go on to the full run (more predictions, all subjects)."]
    return [
        f"r = {r:.3f} is not above the gate of {needed:g}: a full run would cost days without a better student. First:",
        "1. Look at the map of 60_tribe_teacher: are the predictions in z units and in fsaverage5's order?",
        "2. Look at the features of 61_tribe_features: does every modality change over time?",
        "3. Look at the curves of 63_tribe_distill: is a loss NaN or flat?",
        '4. Train 63_tribe_distill again with a third of the learning rates (SETTINGS={"lr_head": ...}).',
    ]
