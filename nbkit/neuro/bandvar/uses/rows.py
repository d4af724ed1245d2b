"""Results of the uses as rows, each beside its simple rival, with an interval over subjects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbkit.neuro.bandvar.uses.anomalies import AMPLITUDE, ARTIFACTS, POWER, TOKENS, Detection
from nbkit.neuro.bandvar.uses.augmentation import ALONE, GENERATED, NOISE, NONE, Augmented
from nbkit.neuro.training.scores.paired import mean_interval


def use_rows(found: Detection, augmented: Augmented) -> list[dict[str, Any]]:
    """Return the scores of both uses.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is. ``anomaly_auc`` is that of the tokens, beside the amplitude
        threshold, and ``anomaly_auc_against_band_power`` beside band powers; ``anomaly_auc_<artifact>`` by artifact.
        ``augmented_accuracy`` is that with generated windows beside none, ``..._against_noise`` beside noisy copies,
        ``..._decoder_alone`` with windows without noise. Each difference has its 95 % interval over subjects, named
        ``<name>_gain``, ``<name>_gain_low`` and ``<name>_gain_high``.
    """
    rows = _beside("anomaly_auc", found.mean(TOKENS), found.mean(AMPLITUDE), "peak-to-peak amplitude")
    rows += _beside("anomaly_auc_against_band_power", found.mean(TOKENS), found.mean(POWER), "strangest band power")
    for kind in ARTIFACTS:
        rows += _beside(f"anomaly_auc_{kind.replace(' ', '_')}", found.auc[kind, TOKENS], found.auc[kind, AMPLITUDE],
                        "peak-to-peak amplitude")[:1]  # fmt: skip
    accuracy = augmented.accuracy
    rows += _beside("augmented_accuracy", accuracy[GENERATED], accuracy[NONE], "the same decoder, no windows added")
    rows += _beside("augmented_accuracy_against_noise", accuracy[GENERATED], accuracy[NOISE], "noisy copies added")
    rows += _beside("augmented_accuracy_decoder_alone", accuracy[ALONE], accuracy[NONE], "no windows added")
    return rows


def _beside(name: str, ours: np.ndarray, theirs: np.ndarray, rival: str) -> list[dict[str, Any]]:
    rows = [_row(name, ours.mean(), theirs.mean(), rival), _row(f"{name}_gain", (ours - theirs).mean(), 0.0, rival)]
    low, high = mean_interval(ours - theirs)
    if not math.isnan(low):
        rows += [_row(f"{name}_gain_low", low, 0.0, rival), _row(f"{name}_gain_high", high, 0.0, rival)]
    return rows


def _row(name: str, value: float, baseline: float, rival: str) -> dict[str, Any]:
    return {"name": name, "value": float(value), "unit": "1", "baseline": float(baseline), "baseline_is": rival}
