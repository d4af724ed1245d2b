"""The table of an encoding result: every model in every region, with intervals, ceiling, null and difference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbkit.neuro.training.scores.paired import beside
from nbkit.neuro.tribe.scoring.frame import JOINT, ON_OFF, RIDGE, STACK, STUDENT, TEACHER_RIDGE, WORD_RATE
from nbkit.neuro.tribe.scoring.residual import RESIDUAL
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.scoring.uncertainty import Encoding, Interval, discovered, interval_over, shift_p

ALL = "all"


@dataclass(frozen=True)
class ModelRow:
    """One model's scores.

    Attributes
    ----------
    model : str
    mean : Interval
        Of r, mean over outputs, over people.
    regions : dict of Interval
    against : Interval
        Of the paired difference from the reference model.
    p : float
        Of the mean under circular shifts.
    share : float
        Mean r divided by the mean ceiling; NaN if there is no ceiling.
    found : float
        Share of the outputs that are above chance at the false discovery rate.
    r : ndarray of shape (outputs,)
        Mean over people.
    by_unit : ndarray of shape (people,)
        Mean over outputs of each person (or run).
    over_ridge : Interval
        Of the paired difference from banded ridge.
    """

    model: str
    mean: Interval
    regions: dict[str, Interval] = field(repr=False)
    against: Interval
    p: float
    share: float
    found: float
    r: np.ndarray = field(repr=False)
    by_unit: np.ndarray = field(repr=False)
    over_ridge: Interval


@dataclass(frozen=True)
class Table:
    """The scores of all models, beside a reference and a ceiling.

    Attributes
    ----------
    rows : dict of ModelRow
    reference : str
        Model that the differences are from.
    ceiling : dict of Interval, or None
        Leave-one-out inter-subject correlation by region, and of all outputs.
    ceiling_r : ndarray of shape (outputs,), or None
    unit : str
        What intervals are over: "people" or "runs".
    """

    rows: dict[str, ModelRow]
    reference: str
    ceiling: dict[str, Interval] | None
    ceiling_r: np.ndarray | None = field(default=None, repr=False)
    unit: str = "people"


def score_table(
    encoding: Encoding, masks: Mapping[str, np.ndarray], settings: FrameSettings, known_ceiling: float | None = None
) -> Table:
    """Score every model of an encoding.

    Parameters
    ----------
    encoding : Encoding
    masks : mapping of str to bool array of shape (outputs,)
        Outputs of each region (`Regions.masks`).
    settings : FrameSettings
    known_ceiling : float, optional
        Noise ceiling that came with the data; without one, the inter-subject correlation is the ceiling.

    Returns
    -------
    table : Table
        The reference is the word rate if there is one, else banded ridge.
    """
    reference = WORD_RATE if WORD_RATE in encoding.models else RIDGE
    base, ridge = (_mean(encoding.unit_r(name)) for name in (reference, RIDGE))
    found = encoding.ceiling() if known_ceiling is None else None
    ceiling = None if found is None else _by_region(found, masks, settings.confidence)
    ceiling_r = known_ceiling if found is None else _outputs(found)
    rows = {}
    for model in encoding.models:
        r, null = encoding.unit_r(model), encoding.null(model, settings.least_shift_s)
        own = _outputs(encoding.r(model))
        alive = np.isfinite(own)
        p = np.where(alive, shift_p(np.nan_to_num(own), null), np.nan)
        mean_p = float(shift_p(np.array(np.nanmean(own)), null[:, alive].mean(1)))
        limit = None if ceiling_r is None else float(np.nanmean(np.where(alive, ceiling_r, np.nan)))
        rows[model] = ModelRow(
            model, interval_over(_mean(r), settings.confidence), _by_region(r, masks, settings.confidence),
            interval_over(_mean(r) - base, settings.confidence), mean_p,
            float("nan") if limit is None else float(np.nanmean(own)) / limit,
            float(discovered(p, settings.fdr)[alive].mean()), own, _mean(r),
            interval_over(_mean(r) - ridge, settings.confidence),
        )  # fmt: skip
    whole = None if ceiling_r is None else np.broadcast_to(ceiling_r, encoding.arrays["keep"].shape[1:])
    return Table(rows, reference, ceiling, whole, encoding.unit)


def table_lines(table: Table) -> list[str]:
    """Return the table as lines of text."""
    n = table.rows[table.reference].mean.n
    lines = [
        f"r over held-out time, mean over outputs [interval over {n} {table.unit}]; p under circular shifts; "
        f"difference from {table.reference}, and from {RIDGE}"
    ]
    for row in table.rows.values():
        share = "" if np.isnan(row.share) else f"  {row.share:4.0%} of the ceiling"
        lines.append(
            f"{row.model:<20} {row.mean}  t {row.mean.t:5.1f}  p {row.p:.4f}  {row.against}  {row.over_ridge}{share}  "
            f"{row.found:4.0%} of outputs above chance"
        )
    if table.ceiling is not None:
        lines.append(f"{'ceiling (ISC)':<20} {table.ceiling[ALL]}")
    return lines


def region_lines(table: Table) -> list[str]:
    """Return r of every model in every region as lines of text."""
    lines = []
    for name in (name for name in table.rows[RIDGE].regions if name != ALL):
        limit = "" if table.ceiling is None else f"   ceiling {table.ceiling[name]}"
        lines.append(f"{name}{limit}")
        lines.extend(f"  {row.model:<20} {row.regions[name]}" for row in table.rows.values())
    return lines


def frame_rows(table: Table) -> list[dict[str, Any]]:
    """Return the result rows of a table, each with a baseline."""
    made = []
    names = {
        WORD_RATE: "word_rate",
        ON_OFF: "on_or_off",
        RIDGE: "banded_ridge",
        TEACHER_RIDGE: "ridge_on_teacher",
        JOINT: "ridge_with_teacher",
    }
    for model in (name for name in (STUDENT, STACK, RESIDUAL) if name in table.rows):
        row = table.rows[model]
        units = {name: other.by_unit for name, other in table.rows.items() if name != model}
        own = model.replace(" + ", "_plus_")
        main = _row(f"r_{own}", row.mean.mean, table.rows[table.reference].mean.mean, table.reference)
        made.append(main | {"over": f"{row.mean.n} {table.unit}", **beside(row.by_unit, units)})
        for rival, name in names.items():
            if rival in table.rows:
                made.append(_row(f"r_{own}_against_{name}", row.mean.mean, table.rows[rival].mean.mean, rival))
        made.append(_row(f"p_{own}", row.p, 1.0, "no relation"))
        if not np.isnan(row.share):
            made.append(_row(f"ceiling_share_{own}", row.share, table.rows[RIDGE].share, RIDGE))
        if not np.isnan(row.against.low):
            made.append(
                _row(f"gain_of_{own}", row.against.mean, 0.0, f"{table.reference} ({row.against} over {table.unit})")
            )
    return made


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "1", "baseline": baseline, "baseline_is": baseline_is}


def _mean(r: np.ndarray) -> np.ndarray:
    """Return each person's mean over outputs with signal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")  # a person without any signal is NaN
        return np.nanmean(r, axis=1)


def _outputs(r: np.ndarray) -> np.ndarray:
    """Return each output's mean over people."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        return np.nanmean(r, axis=0)


def _by_region(r: np.ndarray, masks: Mapping[str, np.ndarray], confidence: float) -> dict[str, Interval]:
    made = {name: interval_over(_mean(r[:, mask]), confidence) for name, mask in masks.items()}
    return made | {ALL: interval_over(_mean(r), confidence)}
