"""The table of next-band prediction: what the model predicts beyond filters and linear relations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbkit.neuro.bandvar.controls.by_subject import (
    AR,
    MODEL,
    SURROGATE,
    WIENER,
    WIENER_SURROGATE,
    Errors,
)
from nbkit.neuro.training.scores.paired import beside, mean_interval

_NAMES = {WIENER: "Wiener filter", AR: "AR of each channel", SURROGATE: "same training on surrogates"}
_SHUFFLED = "the same training on phase-randomised surrogates (same spectra and cross-spectra)"


def excess_rows(errors: Errors | None) -> list[dict[str, Any]]:
    """Return the scores as rows for a session's results, the headline first.

    Parameters
    ----------
    errors : Errors or None
        Of `measure_errors`; None, before a training is complete, has no rows.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is. ``excess`` is the mean over subjects of the skill beyond the
        surrogate, with ``excess_low`` and ``excess_high``, its 95 % interval over subjects, and
        ``excess_subjects``, the share of subjects above zero; ``excess_<band>`` and its interval by band. ``skill_...``
        are skills over persistence. Without surrogates only the skills are there; ``skill_near_heartbeat`` is, if the
        EEG beats like a heart.
    """
    if errors is None:
        return []
    rows = []
    over = f"{len(errors.subjects)} {errors.whose}"
    if errors.controlled:
        rows += _with_interval("excess", errors.excess())
        none = {"nothing beyond surrogates": np.zeros(len(errors.subjects))}
        rows[0] |= {"over": over, **beside(errors.excess(), none)}
        above = float((errors.excess() > 0).mean())
        rows.append(
            _row("excess_subjects", above, 0.5, f"half of {len(errors.subjects)} held-out {errors.whose} above zero")
        )
        rows.append(_skill_row("skill_model_against_surrogate", errors, MODEL, SURROGATE, _SHUFFLED))
    rows.append(_skill_row("skill_model", errors, MODEL, WIENER, "multichannel Wiener filter"))
    rivals = {_NAMES[name]: errors.skill(name) for name in (WIENER, AR, SURROGATE) if name in errors.mse}
    rows[-1] |= {"over": over, **beside(errors.skill(MODEL), rivals)}
    rows.append(_skill_row("skill_model_against_ar", errors, MODEL, AR, "AR: own last 0.5 s of each channel"))
    rows += _with_interval("skill_model_beyond_wiener", errors.skill(MODEL) - errors.skill(WIENER),
                           "multichannel Wiener filter")  # fmt: skip
    if errors.heartbeat is not None and errors.heartbeat.found:
        away = "more than 0.25 s from any heartbeat"
        rows.append(_row("skill_near_heartbeat", errors.heartbeat.near.mean(), errors.heartbeat.away.mean(), away))
    if errors.controlled:
        linear = "the same filter, fitted to and scored on surrogates"
        rows.append(_skill_row("skill_wiener", errors, WIENER, WIENER_SURROGATE, linear))
        for band, name in enumerate(errors.bands):
            rows += _with_interval(f"excess_{name}", errors.excess(band))
    return rows


def skill_table(errors: Errors | None) -> str:
    """Return the skills over persistence by band, with their intervals over subjects, as lines of text."""
    if errors is None:
        return "The training is not complete, so nothing is compared yet."
    names = [name for name in (MODEL, SURROGATE, WIENER, WIENER_SURROGATE, AR) if name in errors.mse]
    columns = [*enumerate(errors.bands), (None, "all")]
    lines = [f"skill over persistence, {len(errors.subjects)} held-out {errors.whose}, mean [95 % interval]"]
    lines.append("".join([f"{'':28}", *(f"{title:>24}" for _, title in columns)]))
    for name in names:
        cells = [_cell(errors.skill(name, band)) for band, _ in columns]
        lines.append("".join([f"{name:28}", *cells]))
    if errors.controlled:
        lines.append("".join([f"{'excess over surrogates':28}", *(_cell(errors.excess(band)) for band, _ in columns)]))
        counts = [int((errors.excess(band) > 0).sum()) for band, _ in columns]
        lines.append(
            "".join(
                [f"{errors.whose + ' above zero':28}", *(f"{f'{n} of {len(errors.subjects)}':>24}" for n in counts)]
            )
        )
    if errors.heartbeat is not None:
        lines.append(errors.heartbeat.words())
    return "\n".join(lines)


def skill_arrays(errors: Errors | None) -> dict[str, Any]:
    """Return what the figures of plots.bandvar.excess draw: skills, bands, excess and its map; empty for None."""
    if errors is None:
        return {"skills": {}, "bands": (), "excess": None, "by_channel": None, "whose": "subjects"}
    bands = range(len(errors.bands))
    names = [name for name in (MODEL, SURROGATE, WIENER, WIENER_SURROGATE, AR) if name in errors.mse]
    skills = {name: np.stack([errors.skill(name, band) for band in bands], axis=1) for name in names}
    excess = np.stack([errors.excess(band) for band in (*bands, None)], axis=1) if errors.controlled else None
    by_channel = errors.excess_by_channel() if errors.controlled else None
    return {"skills": skills, "bands": errors.bands, "excess": excess, "by_channel": by_channel, "whose": errors.whose}


def _cell(values: np.ndarray) -> str:
    low, high = mean_interval(values)
    text = f"{values.mean():.3f}" if math.isnan(low) else f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"
    return f"{text:>24}"


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": float(value), "unit": "1", "baseline": float(baseline), "baseline_is": baseline_is}


def _skill_row(name: str, errors: Errors, ours: str, theirs: str, words: str) -> dict[str, Any]:
    return _row(name, errors.skill(ours).mean(), errors.skill(theirs).mean(), words)


def _with_interval(name: str, values: np.ndarray, baseline_is: str = _SHUFFLED) -> list[dict[str, Any]]:
    """Return a mean over subjects with its interval; without one for a single subject."""
    low, high = mean_interval(values)
    ends = [] if math.isnan(low) else [(f"{name}_low", low), (f"{name}_high", high)]
    return [_row(one, value, 0.0, baseline_is) for one, value in [(name, values.mean()), *ends]]
