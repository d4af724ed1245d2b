"""What a model of the next band has to beat.

Persistence (the next cumulative band equals this one) and zero cost nothing to know; the Wiener predictor is the best
linear filter over time, shared by all channels: a model above it has found something not linear, or across channels.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def stage_pairs(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the input and the target of every stage: zeros before the first band, then each band before the next.

    Parameters
    ----------
    levels : array of shape (..., stages, channels, time)

    Returns
    -------
    inputs, targets : arrays of that shape
    """
    levels = np.asarray(levels)
    return np.concatenate([np.zeros_like(levels[..., :1, :, :]), levels[..., :-1, :, :]], axis=-3), levels


class WienerBandPredictor:
    """Predict each stage's increment with a linear FIR filter, fitted by ridge regression.

    Parameters
    ----------
    lag : int
        Samples to either side of the one predicted.
    ridge : float
        Regularisation, as a share of the mean eigenvalue.
    """

    def __init__(self, lag: int = 50, ridge: float = 1e-6) -> None:
        self.lag, self.ridge = lag, ridge
        self.weights: np.ndarray | None = None

    def fit(self, levels: np.ndarray, channel_step: int = 8) -> WienerBandPredictor:
        """Fit on cumulative bands of shape (windows, stages, channels, time), every ``channel_step``-th channel."""
        inputs, targets = stage_pairs(np.asarray(levels)[:, :, ::channel_step].astype(np.float64))
        stages, taps = inputs.shape[1], 2 * self.lag + 1
        self.weights = np.zeros((stages, taps))  # stage 1 sees zeros: nothing linear can come of it
        for stage in range(1, stages):
            gram, moment = np.zeros((taps, taps)), np.zeros(taps)
            for window_in, window_out in zip(inputs[:, stage], targets[:, stage], strict=True):
                seen = self._lags(window_in).reshape(-1, taps)
                gram += seen.T @ seen
                moment += seen.T @ (window_out - window_in).ravel()
            gram += self.ridge * np.trace(gram) / taps * np.eye(taps)
            self.weights[stage] = np.linalg.solve(gram, moment)
        return self

    def predict(self, levels: np.ndarray) -> np.ndarray:
        """Return each stage predicted from the true one before it, shape (windows, stages, channels, time)."""
        if self.weights is None:
            raise ValueError("This predictor has no weights yet; call fit(levels) with training windows first.")
        inputs, _ = stage_pairs(np.asarray(levels, dtype=np.float64))
        increments = [self._lags(inputs[:, stage]) @ taps for stage, taps in enumerate(self.weights)]
        return inputs + np.stack(increments, axis=1)

    def _lags(self, signal: np.ndarray) -> np.ndarray:
        """View of shape (..., time, taps); outside the window there is silence."""
        room = [(0, 0)] * (signal.ndim - 1) + [(self.lag, self.lag)]
        return sliding_window_view(np.pad(signal, room), 2 * self.lag + 1, axis=-1)


def one_step_scores(prediction: np.ndarray, levels: np.ndarray) -> dict[str, object]:
    """Score one-step predictions against persistence and zero, by stage and over the stages that have a band before.

    Stage 1 is left out of the totals: its input is zeros, so there is nothing to predict from and persistence is zero.

    Parameters
    ----------
    prediction, levels : arrays of shape (windows, stages, channels, time)
        Each stage predicted from the true one before it, and the true cumulative bands, in uV.

    Returns
    -------
    scores : dict
        ``mse``, ``mse_persistence``, ``mse_zero`` in uV^2; ``skill_persistence`` and ``skill_zero``
        (``1 - mse / mse_baseline``); ``increment_r2``; and ``by_stage``, a list of the same for each stage.
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
    """Return the scores of one stage from four means, all in uV^2 but the increment's mean (uV)."""
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
    """Return the means of `stage_scores` over stages 2 and up (of stage 1 where it is alone), and their skills."""
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
