"""Tables of decoders beside each other: scores with intervals over subjects, and what can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.stand_in import is_untrained
from nbkit.neuro.decoding.judging.predictions import Predictions, gathered, label_of
from nbkit.neuro.decoding.judging.scores import MAIN, TRIVIAL_IS, UNITS, score_names
from nbkit.neuro.decoding.judging.statistics import DRAWS, above_chance, difference, interval, verdict
from nbkit.neuro.training.scores.paired import holm

if TYPE_CHECKING:
    import pandas

Record = Mapping[str, Any]
REFERENCE = ("band_power", "baseline")
REFERENCE_IS = "band powers"


def subject_table(records: Sequence[Record], draws: int = DRAWS, seed: int = 2025) -> pandas.DataFrame:
    """Return a row per task, model and mode: scores over all held-out subjects, and the comparison with band powers.

    Columns are the main score with ``low``, ``high`` (95 %, bootstrap over groups), ``chance_p`` (classes renamed),
    the further scores, ``beside`` (the difference from band powers on the same windows), ``beside_low``,
    ``beside_high``, ``p`` (groups exchanged), ``p_holm`` (corrected for the rows of the task), ``said`` (in words),
    ``groups``, ``folds``, ``trained`` (number of weights), ``weights`` and ``seen`` (test groups that pretraining saw).

    Parameters
    ----------
    records : sequence of mapping
        Records of folds with their predictions, see `artifacts.read_records`. Of several tasks, each has its own
        reference and correction.
    draws, seed : int
    """
    import pandas

    every = gathered(records)
    tables = []
    for task in dict.fromkeys(record["task"] for record in records):
        mine = {key[1:]: found for key, found in every.items() if key[0] == task}
        about = [record for record in records if record["task"] == task]
        tables += _task_rows(task, mine, about, draws, seed)
    return pandas.DataFrame(tables)


def weights_in_words(table: pandas.DataFrame) -> str:
    """Return where the weights of a table's models come from; begins with "random" only if all of them are random.

    Examples
    --------
    >>> import pandas
    >>> weights_in_words(pandas.DataFrame({"model": ["labram", "own"], "weights": ["random, seed 1", "trained here"]}))
    'labram: random, seed 1; own: trained here'
    """
    said = table["weights"].astype(str)
    given = table[(said != "") & ~said.str.startswith("none")]  # a linear model on band powers has none
    every = dict.fromkeys(given["weights"])
    if len(every) <= 1:
        return "".join(every)
    each = "; ".join(dict.fromkeys(f"{row.model}: {row.weights}" for row in given.itertuples()))
    return f"random: {each}" if all(is_untrained(one) for one in every) else each


def pair_table(records: Sequence[Record], draws: int = DRAWS, seed: int = 2025) -> pandas.DataFrame:
    """Return a row per pair of decoders of a task: difference with interval, p, and p corrected for all pairs."""
    import pandas

    every = gathered(records)
    rows: list[dict[str, Any]] = []
    for task in dict.fromkeys(key[0] for key in every):
        keys = [key for key in every if key[0] == task]
        keys.sort(key=lambda key: -every[key].score())
        pairs = [(one, other) for place, one in enumerate(keys) for other in keys[place + 1 :]]
        found = [difference(every[one], every[other], draws=draws, seed=seed) for one, other in pairs]
        corrected = holm([one.p for one in found])
        for (one, other), diff, p in zip(pairs, found, corrected, strict=True):
            rows.append({
                "task": task, "one": _name(one), "other": _name(other), "difference": diff.interval.value,
                "low": diff.interval.low, "high": diff.interval.high, "p": diff.p, "p_holm": p,
                "said": verdict(diff, p, "the other"),
            })  # fmt: skip
    columns = ["task", "one", "other", "difference", "low", "high", "p", "p_holm", "said"]
    return pandas.DataFrame(rows, columns=columns)


def result_rows(table: pandas.DataFrame, by_task: bool = False) -> list[dict[str, Any]]:
    """Return each decoder's scores for a session's results, with chance and band powers as baselines.

    Parameters
    ----------
    table : DataFrame
        See `subject_table`.
    by_task : bool
        Whether names begin with the task, for several ones.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is; the main score with its interval and rivals, too.
    """
    rows = []
    for found in table.to_dict("records"):
        score, begin = found["score_name"], f"{found['task']}_" if by_task else ""
        name = f"{begin}{score}_{found['model']}_{found['mode']}"
        if (found["model"], found["mode"]) == REFERENCE or not np.isfinite(found["beside"]):
            beside, beside_is = found["trivial"], TRIVIAL_IS[score]
        else:
            p = "" if not np.isfinite(found["p_holm"]) else f", p = {found['p_holm']:.2g} after Holm"
            beside, beside_is = found["score"] - found["beside"], f"{REFERENCE_IS}, same windows: {found['said']}{p}"
        common = {"unit": UNITS[score], "baseline": beside, "baseline_is": beside_is}
        over = {"low": found["low"], "high": found["high"], "over": f"{found['groups']} groups"}
        rows.append({"name": name, "value": found["score"], **common, **over, "rivals": _rivals(found, table)})
        for other in score_names(found["kind"])[1:]:
            if np.isfinite(found[other]):
                rows.append({
                    "name": f"{begin}{other}_{found['model']}_{found['mode']}", "value": found[other],
                    "unit": UNITS[other], "baseline": found[f"{other}_trivial"], "baseline_is": TRIVIAL_IS[other],
                })  # fmt: skip
    return rows


def _rivals(found: Mapping[str, Any], table: pandas.DataFrame) -> list[dict[str, Any]]:
    """Return the reference as a rival of a decoder, as a session's results take it; p is already corrected."""
    is_reference = (table["model"] == REFERENCE[0]) & (table["mode"] == REFERENCE[1]) & (table["task"] == found["task"])
    return [
        {
            "name": REFERENCE_IS, "value": found["score"] - found["beside"], "low": reference["low"],
            "high": reference["high"], "difference": found["beside"], "difference_low": found["beside_low"],
            "difference_high": found["beside_high"], "p": found["p_holm"],
        }
        for reference in table[is_reference].to_dict("records")
        if np.isfinite(found["beside"])
    ]  # fmt: skip


def in_words(table: pandas.DataFrame) -> list[str]:
    """Return a line for each decoder, best first: its score with interval, and what can be told of it."""
    lines = []
    for found in table.to_dict("records"):
        beside = "" if not found["said"] else f"; {found['said']}"
        p = "" if not np.isfinite(found["p_holm"]) else f" (p {found['p_holm']:.2g})"
        seen = f"; transductive: {found['seen']} of {found['groups']} were in pretraining" if found["seen"] else ""
        lines.append(
            f"{found['task']}: {found['model']}, {found['mode']}: {found['score']:.3f} [{found['low']:.3f}, "
            f"{found['high']:.3f}] over {found['groups']} groups{beside}{p}; {found['weights']}{seen}"
        )
    return lines


def _task_rows(
    task: str, mine: Mapping[tuple[str, str], Predictions], records: Sequence[Record], draws: int, seed: int
) -> list[dict[str, Any]]:
    reference = mine.get(REFERENCE)
    found: dict[tuple[str, str], Any] = {
        key: difference(p, reference, draws=draws, seed=seed)
        for key, p in mine.items()
        if reference is not None and key != REFERENCE
    }
    corrected = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    rows = []
    for key, p in mine.items():
        mean, (chance_p, reached) = interval(p, draws=draws, seed=seed), above_chance(p, draws, seed)
        own = [record for record in records if label_of(record) == key]
        names = score_names(p.kind)
        trivial = {name: float(np.mean([record["scores"][f"{name}_trivial"] for record in own])) for name in names}
        diff = found.get(key)
        beside = diff.interval if diff else None
        rows.append({
            "task": task, "model": key[0], "mode": key[1], "kind": p.kind, "score_name": MAIN[p.kind],
            "score": mean.value, "low": mean.low, "high": mean.high, "trivial": trivial[MAIN[p.kind]],
            "chance_p": chance_p, "chance_reaches": reached, **{name: p.score(name) for name in names[1:]},
            **{f"{name}_trivial": trivial[name] for name in names[1:]},
            "beside": beside.value if beside else np.nan, "beside_low": beside.low if beside else np.nan,
            "beside_high": beside.high if beside else np.nan, "p": diff.p if diff else np.nan,
            "p_holm": corrected.get(key, np.nan),
            "said": verdict(diff, corrected[key], REFERENCE_IS) if diff else "", "groups": mean.groups,
            "folds": len(own), "trained": max((r.get("checkpoint") or {}).get("weights", 0) for r in own),
            "weights": own[0]["info"].get("weights", ""),
            "seen": len({name for record in own for name in record.get("seen", ())}),
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["score"])


def _name(key: tuple[str, str, str]) -> str:
    return f"{key[1]}, {key[2]}"
