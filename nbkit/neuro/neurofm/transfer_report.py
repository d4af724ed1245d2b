"""Report of the transfer experiment (phase 53): few-shot curves, scores without labels, benefit of pretraining.

Pretraining is called better than training from scratch only if the whole interval of their difference over recordings
is above 0. The compared method was fixed before the results were known: *identified*, which keeps the shared weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkit.neuro.neurofm.transfer import HELD_OUT, OTHER, WAYS

COMPARED = "identified"
_WORDS = {
    "identified": "pretrained, units identified",
    "finetuned": "pretrained, all weights",
    "scratch": "from scratch",
}


@dataclass(frozen=True)
class Advantage:
    """Difference between pretrained and from scratch over recordings.

    Attributes
    ----------
    mean, low, high : float
        Mean difference in R2 and its interval; the interval is NaN with fewer than 2 recordings.
    recordings : int
        Number of recordings.
    """

    mean: float
    low: float
    high: float
    recordings: int

    @property
    def words(self) -> str:
        """The conclusion with its numbers, as text."""
        if self.recordings == 0:
            return "no few-shot case is done yet"
        if not np.isfinite(self.low):
            return f"pretrained minus scratch: {self.mean:+.3f} R2 on one recording; no interval, so no conclusion"
        place = "better than" if self.low > 0 else "worse than" if self.high < 0 else "not clearly different from"
        interval = f"{self.mean:+.3f} R2, {self.low:+.3f} to {self.high:+.3f} over {self.recordings} recordings"
        return f"pretrained is {place} scratch with equal windows and steps ({interval})"


@dataclass(frozen=True)
class TransferReport:
    """Results of the completed cases.

    Attributes
    ----------
    curves : dict of str to (shots, scores)
        R2 on held-out recordings for each method, with ``scores`` of shape (recordings and seeds, shots); only complete
        curves.
    levels : dict of str to float
        Reference levels of R2.
    zero : dict of str to dict of str to list of float
        For each kind of recording and method: bit/spike without labels, one value for each recording and seed.
    advantage : Advantage
    rows : list of dict
        For the results of a session: name, value, unit, baseline, baseline_is.
    words : str
        Summary in a few lines.
    """

    curves: dict[str, tuple[list[int], np.ndarray]]
    levels: dict[str, float]
    zero: dict[str, dict[str, list[float]]]
    advantage: Advantage
    rows: list[dict[str, Any]]
    words: str


def read_cases(paths: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the saved results of adaptations as dicts of plain values, sorted by key."""
    cases = []
    for path in paths:
        with np.load(path) as file:
            cases.append({name: file[name].item() for name in file.files})
    return sorted(cases, key=lambda case: case["key"])


def few_shot_advantage(cases: Sequence[Mapping[str, Any]], level: float = 0.9) -> Advantage:
    """Compare pretrained with scratch on held-out recordings.

    Each recording contributes one value, its mean difference over shots and seeds.

    Parameters
    ----------
    cases : sequence of mapping
        Results from `read_cases`.
    level : float
        Confidence level of the interval over recordings (Student's t).
    """
    from scipy.stats import t

    gaps: dict[str, list[float]] = {}
    for case in cases:
        if case["kind"] == HELD_OUT and case["shots"] > 0:
            gaps.setdefault(case["recording"], []).append(case[f"r2_{COMPARED}"] - case["r2_scratch"])
    means = np.array([np.mean(values) for values in gaps.values()])
    if len(means) < 2:
        return Advantage(float(means[0]) if len(means) else float("nan"), float("nan"), float("nan"), len(means))
    half = t.ppf((1 + level) / 2, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
    return Advantage(float(means.mean()), float(means.mean() - half), float(means.mean() + half), len(means))


def report_transfer(cases: Sequence[Mapping[str, Any]], asked: int, level: float = 0.9) -> TransferReport:
    """Evaluate the completed cases.

    Parameters
    ----------
    cases : sequence of mapping
        Results from `read_cases`.
    asked : int
        Number of cases of the whole experiment.
    level : float
        Confidence level of the interval over recordings.

    Returns
    -------
    report : TransferReport
    """
    held = [case for case in cases if case["kind"] == HELD_OUT]
    curves, levels = _curves(held), {"mean of the behaviour": 0.0}
    possible = [case["r2_possible"] for case in held if np.isfinite(case["r2_possible"])]
    if possible:
        levels["best possible"] = float(np.mean(possible))
    zero = {}
    for kind in (HELD_OUT, OTHER):
        bare = [case for case in cases if case["kind"] == kind and case["shots"] == 0]
        if bare:
            zero[kind] = {"untouched": [case["bits_untouched"] for case in bare]}
            zero[kind] |= {_WORDS[way]: [case[f"bits_{way}"] for case in bare] for way in WAYS}
    advantage = few_shot_advantage(cases, level)
    lines = [advantage.words, f"{len(cases)} of {asked} cases are done"]
    return TransferReport(curves, levels, zero, advantage, _rows(held, zero, advantage), "\n".join(lines))


def _curves(held: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], np.ndarray]]:
    shots = sorted({case["shots"] for case in held if case["shots"] > 0})
    lines: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = {}
    for case in held:
        lines.setdefault((case["recording"], case["seed"]), {})[case["shots"]] = case
    whole = [line for line in lines.values() if all(shot in line for shot in shots)]
    if not whole or not shots:
        return {}
    names = {_WORDS[way]: f"r2_{way}" for way in WAYS} | {"Wiener filter": "r2_wiener"}
    return {
        name: (shots, np.array([[line[shot][column] for shot in shots] for line in whole]))
        for name, column in names.items()
    }


def _rows(
    held: Sequence[Mapping[str, Any]], zero: Mapping[str, Mapping[str, Sequence[float]]], advantage: Advantage
) -> list[dict[str, Any]]:
    rows = []
    for kind, name in ((HELD_OUT, "zero_shot"), (OTHER, "cross_modal")):
        if kind in zero:
            rows.append({"name": f"{name}_bits_per_spike", "value": float(np.mean(zero[kind][_WORDS[COMPARED]])),
                         "unit": "bit/spike", "baseline": 0.0, "baseline_is": "mean rate of each unit"})  # fmt: skip
    for shots in sorted({case["shots"] for case in held if case["shots"] > 0}):
        here = [case for case in held if case["shots"] == shots]
        rows.append({"name": f"r2_at_{shots}_windows", "value": float(np.mean([c[f"r2_{COMPARED}"] for c in here])),
                     "unit": "1", "baseline": float(np.mean([c["r2_scratch"] for c in here])),
                     "baseline_is": "the same network from scratch, with equal windows and steps"})  # fmt: skip
        rows.append({"name": f"r2_at_{shots}_windows_beside_wiener", "value": rows[-1]["value"], "unit": "1",
                     "baseline": float(np.mean([c["r2_wiener"] for c in here])),
                     "baseline_is": "a Wiener filter on the same windows"})  # fmt: skip
    if np.isfinite(advantage.low):
        scratch = {"unit": "1", "baseline": 0.0, "baseline_is": "no difference from scratch"}
        rows.append({"name": "few_shot_advantage", "value": advantage.mean, **scratch})
        rows.append({"name": "few_shot_advantage_low", "value": advantage.low, **scratch})
    return rows
