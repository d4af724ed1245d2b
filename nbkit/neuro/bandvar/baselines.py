"""Baselines for next-band prediction.

Persistence (the next cumulative band equals the current one) and zero need no fitting. Skill over persistence alone is
also what the filters leak from band to band; `nbkit.neuro.bandvar.controls` holds the baselines that show how much.
"""

from __future__ import annotations

import numpy as np


def stage_pairs(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the input and the target of every stage.

    Parameters
    ----------
    levels : array of shape (..., stages, channels, time)
        Cumulative bands, in uV.

    Returns
    -------
    inputs : array of shape (..., stages, channels, time)
        Zeros for stage 1, then the cumulative band of the stage before, in uV.
    targets : array of shape (..., stages, channels, time)
        ``levels`` itself.
    """
    levels = np.asarray(levels)
    return np.concatenate([np.zeros_like(levels[..., :1, :, :]), levels[..., :-1, :, :]], axis=-3), levels


def one_step_scores(prediction: np.ndarray, levels: np.ndarray) -> dict[str, object]:
    """Compute the scores of one-step predictions beside persistence and zero, in total and for each stage.

    The totals leave out stage 1, because its input is zero: nothing can be predicted from it, and persistence equals
    zero there.

    Parameters
    ----------
    prediction : array of shape (windows, stages, channels, time)
        Each stage predicted from the true stage before it, in uV.
    levels : array of shape (windows, stages, channels, time)
        True cumulative bands, in uV.

    Returns
    -------
    scores : dict
        ``mse``, ``mse_persistence``, ``mse_zero`` in uV^2; ``skill_persistence`` and ``skill_zero``
        (``1 - mse / mse_baseline``); ``increment_r2``; and ``by_stage``, a list with the same scores for each stage.
    """
    inputs, targets = stage_pairs(np.asarray(levels, dtype=np.float64))
    error = np.asarray(prediction, dtype=np.float64) - targets
    increment = targets - inputs
    rows = []
    for stage in range(targets.shape[1]):
        rows.append(
            stage_scores(
                (error[:, stage] ** 2).mean(),
                (increment[:, stage] ** 2).mean(),
                increment[:, stage].mean(),
                (targets[:, stage] ** 2).mean(),
            )
        )
    return {**pooled_scores(rows), "by_stage": rows}


def stage_scores(mse: float, increment_power: float, increment_mean: float, target_power: float) -> dict[str, float]:
    """Return the scores of one stage.

    Parameters
    ----------
    mse, increment_power, target_power : float
        Mean squares of the error, of the true increment and of the true cumulative band, in uV^2.
    increment_mean : float
        Mean of the true increment, in uV.
    """
    variance = increment_power - increment_mean**2
    return {
        "mse": float(mse),
        "mse_persistence": float(increment_power),
        "mse_zero": float(target_power),
        "increment_variance": float(variance),
        "skill_persistence": _skill(mse, increment_power),
        "skill_zero": _skill(mse, target_power),
        "increment_r2": _skill(mse, variance),
    }


def pooled_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of `stage_scores` over stages 2 and up (stage 1 if there is no other), with their skills."""
    rows = rows[1:] or rows
    names = ("mse", "mse_persistence", "mse_zero", "increment_variance")
    mean = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {
        **mean,
        "skill_persistence": _skill(mean["mse"], mean["mse_persistence"]),
        "skill_zero": _skill(mean["mse"], mean["mse_zero"]),
        "increment_r2": _skill(mean["mse"], mean["increment_variance"]),
    }


def _skill(mse: float, baseline: float) -> float:
    return float(1 - mse / baseline) if baseline > 0 else 0.0
