"""Rollouts of the controls: from the true first band, all bands predicted one after another.

The Wiener filter and the autoregression start where the model starts. The model of the surrogates is rolled out on
surrogates; how much it gains over persistence there is what the filters give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbkit.neuro.bandvar.controls.by_subject import groups_of, linear_predictors
from nbkit.neuro.bandvar.controls.linear import LinearPredictor
from nbkit.neuro.bandvar.controls.paired import PairedBandVAR
from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.rollout import (
    BY_GROUP,
    delta_conditioned_inference,
    rollout_rows,
    rollout_table,
    scored,
)
from nbkit.neuro.bandvar.training import BandVAR
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.scores.paired import beside
from nbkit.neuro.training.weights import held

_COPIED = "persistence: repeat the true first band"
_LINEAR = {"wiener": "Wiener filter", "ar": "AR of each channel"}


def roll_linear(predictor: LinearPredictor, first: np.ndarray, stages: int) -> np.ndarray:
    """Return the rollout of a linear predictor from the true first band.

    Parameters
    ----------
    predictor : LinearPredictor
        Fitted.
    first : array of shape (windows, channels, time)
        True first band, in uV.
    stages : int
        Number of bands.

    Returns
    -------
    rollout : array of shape (windows, stages, channels, time)
        In uV; stage 0 is ``first``.
    """
    rolled = [np.asarray(first, np.float32)]
    for stage in range(1, stages):
        rolled.append(predictor.step(rolled[-1], stage))
    return np.stack(rolled, axis=1)


def open_models(path: str | Path) -> tuple[BandVAR, BandVAR | None]:
    """Return the model in a checkpoint of 40_bandvar_train, and that of the surrogates if there is one."""
    if "surrogate_scale" not in held(path, "bandvar")[0]:
        return BandVAR.from_checkpoint(path), None
    pair = PairedBandVAR.from_checkpoint(path)
    return pair.real, pair.surrogate


def groups_of_stack(data: BandData, windows: int) -> np.ndarray:
    """Return the number of the subject of each held-out window of ``data.val_dataset.stack(windows)``."""
    groups, _, _ = groups_of(data.val_dataset)
    return groups[data.val_dataset.spaced(windows)]


def score_rollouts(
    model: Any, surrogate: BandVAR | None, data: BandData, truth: np.ndarray, limit: int = 500
) -> list[dict[str, Any]]:
    """Return the scores of a model's rollouts and of the controls', as rows for a session's results.

    Parameters
    ----------
    model : nn.Module
    surrogate, data, limit
        See `control_rollouts`.
    truth : array of shape (windows, stages, channels, time)
        ``data.val_dataset.stack(windows)``, in uV.

    Returns
    -------
    rows : list of dict
        Those of `rollout_rows`, `control_rows` and `subject_rows`.
    """
    names = band_names(data.bands)
    table = rollout_table(model, truth, names, groups=groups_of_stack(data, len(truth)))
    controls = control_rollouts(data, truth, surrogate, names, limit)
    return rollout_rows(table) + control_rows(controls, table) + subject_rows(controls, table, data)


def control_rollouts(
    data: BandData, truth: np.ndarray, surrogate: BandVAR | None, names: Sequence[str], limit: int = 500
) -> dict[str, dict[str, Any]]:
    """Compute the scores of the controls' rollouts.

    Parameters
    ----------
    data : BandData
        The linear predictors are fitted to its training windows, at most ``limit``; 0 leaves them out.
    truth : array of shape (windows, stages, channels, time)
        True cumulative bands of held-out windows, in uV.
    surrogate : BandVAR or None
        The model of the surrogates; it is rolled out on as many held-out windows of the surrogates.
    names : sequence of str
        Name of each band.
    limit : int

    Returns
    -------
    table : dict of dict
        The `rollout_scores` of ``wiener`` and ``ar``, and with a model of the surrogates of ``surrogate`` and
        ``surrogate_persistence``, each with the SNR by subject.
    """
    table, groups = {}, groups_of_stack(data, len(truth))
    if limit:
        fitted = linear_predictors(data.train_dataset.stack(limit), data.bands, data.sfreq)
        for name, predictor in zip(("wiener", "ar"), fitted, strict=True):
            table[name] = scored(roll_linear(predictor, truth[:, 0], truth.shape[1]), truth, names, groups)
    if surrogate is not None:
        twin = data.twins[1].stack(len(truth))
        parts = torch.from_numpy(twin[:, 0]).split(32)
        rolled = torch.cat([delta_conditioned_inference(surrogate.model, part, twin.shape[1]) for part in parts])
        table["surrogate"] = scored(rolled, twin, names, groups)
        table["surrogate_persistence"] = scored(np.repeat(twin[:, :1], twin.shape[1], axis=1), twin, names, groups)
    return table


def control_rows(
    table: Mapping[str, Mapping[str, float]], rollouts: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return the scores of the controls as rows, each with its unit and its baseline.

    Parameters
    ----------
    table : mapping
        Of `control_rollouts`.
    rollouts : mapping
        Of `rollout_table`: the model's own scores and those of persistence.

    Returns
    -------
    rows : list of dict
        The SNR of the true signal in dB: ``wiener_snr_db``, ``ar_snr_db`` and ``surrogate_snr_db`` beside persistence
        on the same windows; ``delta_conditioned_snr_db_beyond_wiener``; and ``delta_conditioned_snr_db_gain``, what the
        model gains over persistence, beside what its twin gains on surrogates.
    """
    copied, ours = rollouts["persistence"]["snr_db"], rollouts["delta_conditioned"]["snr_db"]
    rows = [
        _row(f"{name}_snr_db", table[name]["snr_db"], copied, _COPIED) for name in ("wiener", "ar") if name in table
    ]
    if "wiener" in table:
        beyond = ours - table["wiener"]["snr_db"]
        rows.append(_row("delta_conditioned_snr_db_beyond_wiener", beyond, 0.0, "multichannel Wiener filter"))
    if "surrogate" in table:
        there, copied_there = table["surrogate"]["snr_db"], table["surrogate_persistence"]["snr_db"]
        rows.append(_row("surrogate_snr_db", there, copied_there, f"{_COPIED}, on surrogates"))
        gain, theirs = ours - copied, there - copied_there
        words = "the gain of the same training on phase-randomised surrogates"
        rows.append(_row("delta_conditioned_snr_db_gain", gain, theirs, words))
    return rows


def subject_rows(
    table: Mapping[str, Mapping[str, Any]], rollouts: Mapping[str, Mapping[str, Any]], data: BandData
) -> list[dict[str, Any]]:
    """Return the mean of each subject's SNR, with its interval over subjects and beside its rivals.

    Parameters
    ----------
    table : mapping
        Of `control_rollouts`.
    rollouts : mapping
        Of `rollout_table` with groups.
    data : BandData

    Returns
    -------
    rows : list of dict
        ``delta_conditioned_snr_db_by_subject`` beside persistence, Wiener filter and autoregression;
        ``wiener_snr_db_by_subject`` beside persistence; and ``delta_conditioned_snr_db_gain_by_subject``, what the
        model gains over persistence, beside what its twin gains on surrogates.
    """
    found = {name: scores[BY_GROUP] for name, scores in {**table, **rollouts}.items()}
    seen = np.isfinite(found["persistence"]) & np.isfinite(found["delta_conditioned"])
    found = {name: values[seen] for name, values in found.items()}
    _, _, whose = groups_of(data.val_dataset)
    over = f"{int(seen.sum())} {whose}"
    copied, ours = found["persistence"], found["delta_conditioned"]
    rivals = {"persistence": copied}
    rivals |= {words: found[name] for name, words in _LINEAR.items() if name in found}
    rows = [_compared("delta_conditioned_snr_db_by_subject", ours, rivals, _COPIED, over)]
    if "wiener" in found:
        rows.append(_compared("wiener_snr_db_by_subject", found["wiener"], {"persistence": copied}, _COPIED, over))
    if "surrogate" in found:
        theirs = {"same training on surrogates": found["surrogate"] - found["surrogate_persistence"]}
        words = "the gain of the same training on phase-randomised surrogates"
        rows.append(_compared("delta_conditioned_snr_db_gain_by_subject", ours - copied, theirs, words, over))
    return rows


def _compared(
    name: str, values: np.ndarray, rivals: Mapping[str, np.ndarray], baseline_is: str, over: str
) -> dict[str, Any]:
    """Return a row with its interval; its baseline is the first rival."""
    row = _row(name, values.mean(), next(iter(rivals.values())).mean(), baseline_is)
    return row | {"over": over, **beside(values, rivals)}


def _row(name: str, value: float, baseline: float, baseline_is: str) -> dict[str, Any]:
    return {"name": name, "value": float(value), "unit": "dB", "baseline": float(baseline), "baseline_is": baseline_is}
