"""Report of the transfer experiment (phase 53): few-shot curves, scores without labels, benefit of pretraining.

Pretraining is called better than training from scratch only if the whole interval of their difference over recordings
is above 0. The compared way was fixed before the results were known: *identified*, which keeps the shared weights.
*Untouched* and *unsupervised adaptation* have their own names in every result: only the first may be called zero-shot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkit.neuro.neurofm.decoders.rivals import BAYES, LDA, WIENER
from nbkit.neuro.neurofm.transfer import HELD_OUT, OTHER, WAYS
from nbkit.neuro.training.scores.paired import beside

COMPARED = "identified"
_WORDS = {
    "identified": "pretrained, units identified",
    "stitched": "pretrained, units and stitch matrix",
    "lora": "pretrained, units and LoRA",
    "finetuned": "pretrained, all weights",
    "scratch": "from scratch",
}
_RIVALS = {WIENER: "Wiener filter", BAYES: "Bayes", LDA: "LDA"}


@dataclass(frozen=True)
class Advantage:
    """Difference between pretrained and a rival over recordings.

    Attributes
    ----------
    mean, low, high : float
        Mean difference of the scores and its interval; the interval is NaN with fewer than 2 recordings.
    recordings : int
        Number of recordings.
    score_is : str
        "R2" or "accuracy".
    rival : str
    """

    mean: float
    low: float
    high: float
    recordings: int
    score_is: str = "R2"
    rival: str = "scratch"

    @property
    def words(self) -> str:
        """The conclusion with its numbers, as text."""
        gap = f"{self.mean:+.3f} {self.score_is}"
        if self.recordings == 0:
            return "no few-shot case is done yet"
        if not np.isfinite(self.low):
            return f"pretrained minus {self.rival}: {gap} on one recording; no interval, so no conclusion"
        place = "better than" if self.low > 0 else "worse than" if self.high < 0 else "not clearly different from"
        interval = f"{gap}, {self.low:+.3f} to {self.high:+.3f} over {self.recordings} recordings"
        return f"pretrained is {place} {self.rival} with equal windows ({interval})"


@dataclass(frozen=True)
class TransferReport:
    """Results of the completed cases.

    Attributes
    ----------
    curves : dict of str to (shots, scores)
        Scores on held-out recordings for each way and rival, with ``scores`` of shape (recordings and seeds, shots).
    levels : dict of str to float
        Reference levels of the score.
    zero : dict of str to dict of str to list of float
        For each kind of recording and way: bits without labels, one value for each recording and seed.
    unit : str
        Unit of these bits.
    score_is : str
        "R2" or "accuracy".
    advantage : Advantage
    rows : list of dict
        For the results of a session: name, value, unit, baseline, baseline_is.
    words : str
        Summary in a few lines.
    """

    curves: dict[str, tuple[list[int], np.ndarray]]
    levels: dict[str, float]
    zero: dict[str, dict[str, list[float]]]
    unit: str
    score_is: str
    advantage: Advantage
    rows: list[dict[str, Any]]
    words: str


def read_cases(paths: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the saved results of adaptations, sorted by key."""
    cases = []
    for path in paths:
        with np.load(path) as file:
            cases.append({name: file[name].item() if file[name].ndim == 0 else file[name] for name in file.files})
    return sorted(cases, key=lambda case: case["key"])


def few_shot_advantage(
    cases: Sequence[Mapping[str, Any]], level: float = 0.9, rival: str = "scratch", shot: int | None = None
) -> Advantage:
    """Compare pretrained with a rival on held-out recordings.

    Each recording contributes one value, its mean difference over shots and seeds.

    Parameters
    ----------
    cases : sequence of mapping
        Results from `read_cases`.
    level : float
        Confidence level of the interval over recordings (Student's t).
    rival : str
        "scratch", another way, or the name of a rival decoder.
    shot : int, optional
        Only this number of shots; by default all.
    """
    from scipy.stats import t

    gaps: dict[str, list[float]] = {}
    score_is = "R2"
    for case in cases:
        if case["kind"] != HELD_OUT or f"score_{rival}" not in case or f"score_{COMPARED}" not in case:
            continue
        gap = np.atleast_1d(case[f"score_{COMPARED}"]) - np.atleast_1d(case[f"score_{rival}"])
        gap = gap if shot is None else gap[np.atleast_1d(case["shots"]) == shot]
        if len(gap):
            gaps.setdefault(case["recording"], []).append(float(gap.mean()))
            score_is = case["score_is"]
    means = np.array([np.mean(values) for values in gaps.values()])
    said = {"score_is": score_is, "rival": rival}
    if len(means) < 2:
        mean = float(means[0]) if len(means) else float("nan")
        return Advantage(mean, float("nan"), float("nan"), len(means), **said)
    half = t.ppf((1 + level) / 2, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
    return Advantage(
        float(means.mean()), float(means.mean() - half), float(means.mean() + half), len(means), **said
    )  # fmt: skip


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
    labelled = [case for case in held if np.size(case["shots"])]
    score_is = labelled[0]["score_is"] if labelled else "R2"
    possible = [case["possible"] for case in held if np.isfinite(case["possible"])]
    levels = {} if score_is == "accuracy" else {"mean of the behaviour": 0.0}
    if possible:
        levels["best possible"] = float(np.mean(possible))
    zero: dict[str, dict[str, list[float]]] = {}
    for kind in (HELD_OUT, OTHER):
        here = [case for case in cases if case["kind"] == kind]
        ways = [way for way in WAYS if all(f"bits_{way}" in case for case in here)]
        if here:
            zero[kind] = {"untouched": [case["bits_untouched"] for case in here]}
            zero[kind] |= {_WORDS[way]: [case[f"bits_{way}"] for case in here] for way in ways}
    units = list(dict.fromkeys(case["unit"] for case in cases)) or ["bit/spike"]
    advantage = few_shot_advantage(labelled, level)
    rivals = [
        name for name in (*_RIVALS, "lora", "finetuned", "stitched") if any(f"score_{name}" in c for c in labelled)
    ]
    lines = [advantage.words]
    lines += [few_shot_advantage(labelled, level, name).words for name in rivals]
    lines += [_said(kind, cases) for kind in (HELD_OUT, OTHER) if any(case["kind"] == kind for case in cases)]
    lines.append(f"{len(cases)} of {asked} cases are done")
    rows = _rows(cases, labelled, advantage)
    return TransferReport(
        _curves(labelled), levels, zero, ", ".join(units), score_is, advantage, rows, "\n".join(lines)
    )  # fmt: skip


def shots_table(cases: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean scores on held-out recordings as a table: a line for each way and rival, a column for each k."""
    curves = _curves([case for case in cases if case["kind"] == HELD_OUT and np.size(case["shots"])])
    if not curves:
        return "no few-shot case is done yet"
    shots = next(iter(curves.values()))[0]
    lines = ["labelled windows  " + "  ".join(f"{shot:>6}" for shot in shots)]
    for name, (_, scores) in curves.items():
        lines.append(f"{name}  " + "  ".join(f"{value:6.3f}" for value in scores.mean(axis=0)))
    return "\n".join(lines)


def _said(kind: str, cases: Sequence[Mapping[str, Any]]) -> str:
    here = [case for case in cases if case["kind"] == kind]
    parts = []
    for unit in dict.fromkeys(case["unit"] for case in here):
        own = [case for case in here if case["unit"] == unit]
        said = ", ".join(
            f"{word} {np.mean([case[f'bits_{way}'] for case in own]):+.3f}"
            for way, word in (("untouched", "untouched"), (COMPARED, "unsupervised adaptation"), ("scratch", "scratch"))
            if all(f"bits_{way}" in case for case in own)
        )
        parts.append(f"{said} {unit}")
    return f"{kind}, masked units over mean rates: " + "; ".join(parts)


def _curves(held: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], np.ndarray]]:
    names = {way: word for way, word in _WORDS.items()} | _RIVALS
    curves = {}
    for name, word in names.items():
        own = [case for case in held if f"score_{name}" in case]
        if own:
            shots = np.atleast_1d(own[0]["shots"]).tolist()
            curves[word] = shots, np.stack([np.atleast_1d(case[f"score_{name}"]) for case in own])
    return curves


def _rows(
    cases: Sequence[Mapping[str, Any]], labelled: Sequence[Mapping[str, Any]], advantage: Advantage
) -> list[dict[str, Any]]:
    rows = []
    for kind, start in ((HELD_OUT, ""), (OTHER, "cross_modal_")):
        for unit, word in (("bit/spike", "spike"), ("bit/sample", "sample")):
            here = [case for case in cases if case["kind"] == kind and case["unit"] == unit]
            for way, name in (("untouched", "untouched"), (COMPARED, "adapted")) if here else ():
                for column, end, of in (("bits", "", "training"), ("nlb", "_nlb", "evaluated")):
                    rows.append({"name": f"{start}{name}_bits_per_{word}{end}",
                                 "value": float(np.mean([case[f"{column}_{way}"] for case in here])), "unit": unit,
                                 "baseline": 0.0,
                                 "baseline_is": f"mean rate of each unit in the {of} windows"})  # fmt: skip
    kind = "accuracy" if advantage.score_is == "accuracy" else "r2"
    curves = _curves(labelled)
    ours, scratch = curves.get(_WORDS[COMPARED]), curves.get(_WORDS["scratch"])
    for place, shot in enumerate(ours[0] if ours and scratch else []):
        value = float(ours[1][:, place].mean())
        rows.append({"name": f"{kind}_at_{shot}_windows", "value": value, "unit": "1",
                     "baseline": float(scratch[1][:, place].mean()),
                     "baseline_is": "the same network from scratch, with equal windows and steps",
                     **_beside(labelled, shot)})  # fmt: skip
        for rival, words in _RIVALS.items():
            if words in curves:
                rows.append({"name": f"{kind}_at_{shot}_windows_beside_{rival.lower()}", "value": value, "unit": "1",
                             "baseline": float(curves[words][1][:, place].mean()),
                             "baseline_is": f"{words} on the same labelled windows"})  # fmt: skip
    if np.isfinite(advantage.low):
        none = {"unit": "1", "baseline": 0.0, "baseline_is": "no difference from scratch"}
        rows.append({"name": "few_shot_advantage", "value": advantage.mean, **none})
        rows.append({"name": "few_shot_advantage_low", "value": advantage.low, **none})
    return rows


def _beside(labelled: Sequence[Mapping[str, Any]], shot: int) -> dict[str, Any]:
    """Return the interval of the score at a number of shots over recordings, and its rivals on the same ones."""
    scores = {name: _by_recording(labelled, name, shot) for name in (COMPARED, "scratch", *_RIVALS)}
    recordings = sorted(scores[COMPARED])
    if not recordings:
        return {}
    arrays = {name: np.array([own.get(r, np.nan) for r in recordings]) for name, own in scores.items() if own}
    rivals = {_RIVALS.get(name, _WORDS.get(name, name)): values for name, values in arrays.items() if name != COMPARED}
    return {"over": f"{len(recordings)} recordings", **beside(arrays[COMPARED], rivals)}


def _by_recording(labelled: Sequence[Mapping[str, Any]], name: str, shot: int) -> dict[str, float]:
    """Return the score of a way or rival on each recording, the mean over its seeds."""
    found: dict[str, list[float]] = {}
    for case in labelled:
        if f"score_{name}" in case:
            own = np.atleast_1d(case[f"score_{name}"])[np.atleast_1d(case["shots"]) == shot]
            found.setdefault(case["recording"], []).extend(float(value) for value in own)
    return {recording: float(np.mean(values)) for recording, values in found.items() if values}
