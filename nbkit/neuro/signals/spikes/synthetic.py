"""Synthetic spike populations with a known optimal decoder.

The velocity of a hand, a two-dimensional Ornstein-Uhlenbeck process, drives log rates by cosine tuning (Georgopoulos et
al. 1982; Moran and Schwartz 1999): log rate = log r - g^2 / 2 + g cos(angle to the preferred direction) speed. All
recordings share the latent process; each has its own units. Prior and likelihood are known, so the posterior mean for a
window is known too (`optimal_velocity`): no decoder of these spikes is better on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.spikes.binned import BinnedRecording
from nbkit.neuro.signals.spikes.reliability import SNR_BIN_S, recording_snr

STAND_IN = "synthetic stand-in: cosine-tuned Poisson units driven by a simulated velocity; no brain was recorded"
VELOCITY_SD = 10.0  # cm/s, each axis


@checked
@dataclass(frozen=True)
class PopulationSettings:
    """Settings of one simulated recording."""

    units: int = 60
    duration_s: float = 300.0
    bin_s: float = 0.01
    rate_hz: float = 12.0  # mean rate; the rates of units vary by rate_spread
    rate_spread: float = 0.5  # standard deviation of the log rates
    snr: float = 0.8  # split-half reliability of a typical unit in bins of 0.5 s
    tau_s: float = 0.4  # time constant of the velocity
    species: str = "mouse"
    modality: str = "neuropixels"
    region: str = "motor cortex"

    @classmethod
    def smoke(cls) -> PopulationSettings:
        """Return small settings for a test of seconds on two CPU cores."""
        return cls(duration_s=60.0, bin_s=0.02)

    @classmethod
    def free(cls) -> PopulationSettings:
        """Return settings with the number of units of a probe, for ten minutes."""
        return cls(units=200, duration_s=600.0)


def gain_for_snr(snr: float, rate_hz: float, tau_s: float, bin_s: float = SNR_BIN_S) -> float:
    """Return the tuning gain at which a unit with a given rate has a given reliability.

    With mean count m = rate * bin and log-rate variance g^2, the counts' signal variance is m^2 times the mean of
    exp(g^2 rho(s - t)) - 1 over the bin, rho(d) = exp(-|d| / tau); reliability = V / (V + m).

    Raises
    ------
    ValueError
        If ``snr`` is not in [0, 1), or the rate is not above 0.
    """
    if not 0 <= snr < 1 or rate_hz <= 0:
        raise ValueError(f"Invalid {snr=} at {rate_hz=} Hz; give a reliability from 0 to below 1, and a rate above 0.")
    time = (np.arange(50) + 0.5) / 50 * bin_s
    rho = np.exp(-np.abs(time[:, None] - time) / tau_s)
    mean, low, high = rate_hz * bin_s, 0.0, 4.0
    for _ in range(60):
        gain = (low + high) / 2
        variance = mean**2 * np.expm1(gain**2 * rho).mean()
        low, high = (gain, high) if variance / (variance + mean) < snr else (low, gain)
    return gain


def simulate_population(settings: PopulationSettings, name: str, seed: int = 0) -> BinnedRecording:
    """Simulate one recording, with the velocity (cm/s) as behaviour and the tuning as known truth.

    The numbers depend only on settings, name and seed.
    """
    s, draws = settings, np.random.default_rng([seed, *name.encode()])
    bins = int(round(s.duration_s / s.bin_s))
    velocity = _ornstein_uhlenbeck(bins, s.bin_s / s.tau_s, draws)
    rates = s.rate_hz * np.exp(s.rate_spread * draws.standard_normal(s.units) - s.rate_spread**2 / 2)
    angle = draws.uniform(0, 2 * np.pi, s.units)
    gain = gain_for_snr(s.snr, s.rate_hz, s.tau_s) * np.ones(s.units)
    tuning = gain[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    base = np.log(rates * s.bin_s) - gain**2 / 2
    counts = draws.poisson(np.exp(base + velocity @ tuning.T))
    return BinnedRecording(
        name, counts, s.bin_s, tuple(f"u{i:03d}" for i in range(s.units)), (s.region,) * s.units,
        VELOCITY_SD * velocity,
        task="velocity", behaviour_unit="cm/s", snr=recording_snr(counts, s.bin_s), species=s.species,
        modality=s.modality, subject=name, data=STAND_IN,
        truth={"tuning": tuning, "base": base, "tau_s": np.float64(s.tau_s)},
    )  # fmt: skip


def simulate_recordings(
    count: int, settings: PopulationSettings, seed: int = 0, snrs: Sequence[float] | None = None
) -> list[BinnedRecording]:
    """Simulate recordings rec000, rec001 ... with a common process and different units; ``snrs`` are cycled."""
    return [
        simulate_population(replace(settings, snr=(snrs or [settings.snr])[i % len(snrs or [1])]), f"rec{i:03d}", seed)
        for i in range(count)
    ]


def optimal_velocity(
    counts: np.ndarray, bin_s: float, tuning: np.ndarray, base: np.ndarray, tau_s: float, grid: int = 33
) -> np.ndarray:
    """Compute the posterior mean of the velocity given all counts of a window: the optimal decoder.

    It uses forward and backward passes over a grid of velocities, +- 4 standard deviations; the error of the grid is
    far below that of the posterior.

    Parameters
    ----------
    counts : ndarray of shape (windows, bins, units)
    bin_s : float
        Length of a bin, in s.
    tuning : ndarray of shape (units, 2)
    base : ndarray of shape (units,)
        Log of the mean count per bin at rest.
    tau_s : float
    grid : int
        Points per axis.

    Returns
    -------
    velocity : ndarray of shape (windows, bins, 2), in cm/s
    """
    axis = np.linspace(-4, 4, grid)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_rate = points @ tuning.T + base
    evidence = np.asarray(counts, float) @ log_rate.T - np.exp(log_rate).sum(axis=1)
    evidence -= evidence.max(axis=-1, keepdims=True)
    likelihood = np.exp(evidence).reshape(*evidence.shape[:2], grid, grid)
    keep = np.exp(-bin_s / tau_s)
    move = np.exp(-((axis - keep * axis[:, None]) ** 2) / (2 * (1 - keep**2)))  # (from, to)
    move /= move.sum(axis=1, keepdims=True)
    prior = np.exp(-(axis**2) / 2)
    forward = np.empty_like(likelihood)
    state = np.broadcast_to(np.outer(prior, prior), likelihood[:, 0].shape)
    for t in range(likelihood.shape[1]):
        state = (state if t == 0 else move.T @ state @ move) * likelihood[:, t]
        state = state / state.sum(axis=(1, 2), keepdims=True)
        forward[:, t] = state
    back = np.ones_like(forward[:, 0])
    for t in range(likelihood.shape[1] - 1, -1, -1):
        forward[:, t] *= back
        back = move @ (back * likelihood[:, t]) @ move.T
        back /= back.sum(axis=(1, 2), keepdims=True)
    forward /= forward.sum(axis=(2, 3), keepdims=True)
    mean = np.stack([forward.sum(axis=3) @ axis, forward.sum(axis=2) @ axis], axis=-1)
    return VELOCITY_SD * mean


def _ornstein_uhlenbeck(bins: int, rate: float, draws: np.random.Generator) -> np.ndarray:
    """Return a two-dimensional process of unit variance, exact at the bins."""
    from scipy.signal import lfilter

    keep = np.exp(-rate)
    noise = draws.standard_normal((bins, 2))
    noise[1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise, axis=0)
