"""The best linear predictors of the next band: what filters and linear relations explain.

Both predict the increment of each stage and are fitted by least squares with a ridge penalty that is chosen on training
windows: one sees all channels before and after the predicted sample (a multichannel Wiener filter), the other only
the last samples of the channel itself, as an autoregressive model does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nbkit.neuro.bandvar.baselines import stage_pairs
from nbkit.neuro.signals.bands import Band

RIDGES = (1e-6, 1e-4, 1e-2, 1.0, 100.0)  # as fractions of the mean eigenvalue
_ROWS_A_WEIGHT = 30  # samples for each weight; more change nothing but the time
_FEWEST_ROWS = 5  # of samples for each weight: with fewer windows the filter sees fewer lags
_MOST_WEIGHTS = 2000


class LinearPredictor:
    """Predict the increment of each stage by a linear filter of the stage before it.

    Parameters
    ----------
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz.
    sfreq : float
        Sampling rate, in Hz.
    reach_s : float
        Length of the filter in s, on each side that it sees.

    Attributes
    ----------
    weights : list of array
        For each stage, of shape (features, outputs); empty for the first, whose input is zero.
    ridges : list of float
        The chosen penalty of each stage.
    """

    across = True  # whether a channel is predicted from all channels

    def __init__(self, bands: Sequence[Band], sfreq: float, reach_s: float = 0.5) -> None:
        self.bands, self.sfreq, self.reach_s = tuple(bands), float(sfreq), reach_s
        self.most = _MOST_WEIGHTS
        self.weights: list[np.ndarray] = []
        self.ridges: list[float] = []

    def lags(self, stage: int, channels: int) -> np.ndarray:
        """Return the lags that a stage's filter sees, in samples."""
        raise NotImplementedError

    def fit(self, levels: np.ndarray) -> LinearPredictor:
        """Fit the filter of every stage and return this predictor.

        Parameters
        ----------
        levels : array of shape (windows, stages, channels, time)
            Cumulative bands of the training windows, in uV; the ridge is chosen on their last fifth, which with several
            subjects are other subjects, and the filter is then fitted to all.
        """
        inputs, targets = stage_pairs(np.asarray(levels, np.float32))
        windows, stages, channels, steps = inputs.shape
        self.most = min(_MOST_WEIGHTS, windows * steps // _FEWEST_ROWS)
        self.weights, self.ridges = [np.zeros((0, 0), np.float32)], [0.0]
        for stage in range(1, stages):
            lags = self.lags(stage, channels)
            rows = steps if self.across else steps * channels
            features = len(lags) * (channels if self.across else 1)
            count = min(windows, max(5, -(-_ROWS_A_WEIGHT * features // rows)))
            some = np.linspace(0, windows - 1, count).round().astype(int)
            seen, wanted = inputs[some, stage], (targets - inputs)[some, stage]
            cut = max(1, count - count // 5)
            first, last = self._moments(seen[:cut], wanted[:cut], lags), self._moments(seen[cut:], wanted[cut:], lags)
            tried = [_loss(_solved(first, ridge), last) for ridge in RIDGES] if count > cut else [0.0]
            ridge = RIDGES[int(np.argmin(tried))]
            both = (first[0] + last[0], first[1] + last[1])
            self.weights.append(_solved(both, ridge).astype(np.float32))
            self.ridges.append(ridge)
        return self

    def predict(self, levels: np.ndarray) -> np.ndarray:
        """Predict each stage from the true stage before it; both of shape (windows, stages, channels, time) in uV."""
        inputs, _ = stage_pairs(np.asarray(levels, np.float32))
        return np.stack([self.step(inputs[:, stage], stage) for stage in range(inputs.shape[1])], axis=1)

    def step(self, current: np.ndarray, stage: int) -> np.ndarray:
        """Predict one stage from the one before it, both of shape (windows, channels, time) in uV.

        Raises
        ------
        ValueError
            If the predictor has not been fitted.
        """
        if not self.weights:
            raise ValueError("This predictor has not been fitted; call fit(levels) with training windows first.")
        current = np.asarray(current, np.float32)
        if stage == 0:
            return current.copy()
        lags = self.lags(stage, current.shape[1])
        made = [rows @ self.weights[stage] for rows in self._designs(current, lags)]
        shaped = [one.T if self.across else one.reshape(current.shape[1:]) for one in made]
        return current + np.stack(shaped)

    def _designs(self, signal: np.ndarray, lags: np.ndarray) -> Iterator[np.ndarray]:
        """Yield each window's features, zeros outside it: (time, channels * lags), or (channels * time, lags)."""
        room = int(np.abs(lags).max())
        places = np.arange(signal.shape[-1])[:, None] + lags + room
        for window in np.pad(signal, ((0, 0), (0, 0), (room, room))):
            seen = window[:, places]  # (channels, time, lags)
            yield seen.transpose(1, 0, 2).reshape(len(places), -1) if self.across else seen.reshape(-1, len(lags))

    def _moments(self, seen: np.ndarray, wanted: np.ndarray, lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the products of the features with themselves and with the targets, summed over windows."""
        gram, moment = 0.0, 0.0
        for rows, target in zip(self._designs(seen, lags), wanted, strict=True):
            rows = rows.astype(np.float64) if rows.shape[1] < 300 else rows
            gram = gram + rows.T @ rows
            moment = moment + rows.T @ (target.T if self.across else target.reshape(-1, 1))
        return np.asarray(gram, np.float64), np.asarray(moment, np.float64)


class WienerFilter(LinearPredictor):
    """Predict each channel from all channels, before and after the predicted sample.

    Lags are as dense as the band of the input asks for (Nyquist), so that slow bands get no redundant ones.
    """

    def lags(self, stage: int, channels: int) -> np.ndarray:
        high = self.bands[stage - 1][1]
        step = max(1, int(self.sfreq / (2 * (1.25 * high + 1))))
        most = min(int(self.reach_s * self.sfreq) // step, self.most // channels // 2)
        return step * np.arange(-most, most + 1)


class Autoregression(LinearPredictor):
    """Predict each channel from its own last samples only, with one filter for all channels: AR(p), p in samples."""

    across = False

    def lags(self, stage: int, channels: int) -> np.ndarray:
        return np.arange(-int(self.reach_s * self.sfreq) + 1, 1)

    @property
    def order(self) -> int:
        """Number of samples that are seen, p."""
        return int(self.reach_s * self.sfreq)


def _solved(moments: tuple[np.ndarray, np.ndarray], ridge: float) -> np.ndarray:
    gram, moment = moments
    return np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), moment)


def _loss(weights: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the squared error of weights on other windows, up to the power of the targets."""
    gram, moment = moments
    return float(np.sum(weights * (gram @ weights - 2 * moment)))
