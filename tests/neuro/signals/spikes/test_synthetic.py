"""Simulated populations: the tuning, the rates, the reliability and the best decoder are what they are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.spikes.synthetic import (
    VELOCITY_SD,
    PopulationSettings,
    gain_for_snr,
    optimal_velocity,
    simulate_population,
    simulate_recordings,
)

LONG = PopulationSettings(units=40, duration_s=400.0, bin_s=0.02, rate_spread=0.0)


def r2(truth, guess) -> float:
    return float(1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean(axis=(0, 1))) ** 2).sum())


@pytest.mark.parametrize("snr", [0.3, 0.8])
def test_reliability_and_rates_are_as_asked(snr):
    made = simulate_population(replace(LONG, snr=snr), "rec", seed=3)
    assert made.snr == pytest.approx(snr, abs=0.05)
    assert made.counts.mean() / LONG.bin_s == pytest.approx(12.0, rel=0.1)
    assert made.behaviour.std() == pytest.approx(VELOCITY_SD, rel=0.1)
    assert gain_for_snr(0.8, 12.0, 0.4) > gain_for_snr(0.3, 12.0, 0.4) > 0


def test_tuning_is_a_cosine():
    made = simulate_population(LONG, "rec", seed=3)
    velocity = made.behaviour / VELOCITY_SD
    angle, speed = np.arctan2(*velocity.T[::-1]), np.linalg.norm(velocity, axis=1)
    near = (speed > 0.9) & (speed < 1.1)
    for at in (0.0, np.pi / 2, np.pi):
        seen, expected = 0, 0.0
        for unit, (tuning, base) in enumerate(zip(made.truth["tuning"], made.truth["base"], strict=True)):
            along = np.abs(np.angle(np.exp(1j * (angle - np.arctan2(tuning[1], tuning[0])))))
            there = near & (np.abs(along - at) < 0.15)
            seen += made.counts[there, unit].sum()
            expected += there.sum() * np.exp(base + np.hypot(*tuning) * np.cos(at))
        assert expected > 100 and seen == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_recordings_share_the_latent_and_nothing_else():
    one, two = simulate_recordings(2, replace(LONG, duration_s=10.0), seed=1, snrs=[0.8, 0.3])
    assert not np.array_equal(one.truth["tuning"], two.truth["tuning"]) and two.snr < one.snr
    again = simulate_recordings(2, replace(LONG, duration_s=10.0), seed=1, snrs=[0.8, 0.3])[1]
    assert np.array_equal(two.counts, again.counts)


def test_the_best_decoder_is_the_brute_force_posterior():
    rng = np.random.default_rng(0)
    tuning, base, tau, bin_s = rng.normal(size=(3, 2)), np.full(3, -0.5), 0.1, 0.05
    counts = rng.poisson(0.8, size=(2, 2, 3))
    axis = np.linspace(-4, 4, 17)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_rate = points @ tuning.T + base
    fit = counts @ log_rate.T - np.exp(log_rate).sum(axis=1)
    keep = np.exp(-bin_s / tau)
    step = points[None] - keep * points[:, None]
    move = np.exp(-(step**2).sum(-1) / (2 * (1 - keep**2)))
    move /= move.sum(axis=1, keepdims=True)
    joint = np.exp(-(points**2).sum(-1) / 2)[:, None] * move  # (first, second)
    for window in range(2):
        posterior = joint * np.exp(fit[window, 0])[:, None] * np.exp(fit[window, 1])
        posterior /= posterior.sum()
        best = np.stack([posterior.sum(axis=1) @ points, posterior.sum(axis=0) @ points]) * VELOCITY_SD
        assert optimal_velocity(counts, bin_s, tuning, base, tau, grid=17)[window] == pytest.approx(best, rel=1e-6)


def test_no_linear_decoder_beats_the_best():
    made = simulate_population(replace(LONG, duration_s=200.0), "rec", seed=5)
    windows = made.windows(50)
    counts, truth = windows["counts"], windows["behaviour"]
    best = optimal_velocity(counts, LONG.bin_s, made.truth["tuning"], made.truth["base"], LONG.tau_s)
    smooth = np.apply_along_axis(lambda c: np.convolve(c, np.ones(9) / 9, "same"), 1, counts.astype(float))
    design = np.concatenate([smooth, np.ones((*smooth.shape[:2], 1))], axis=2)
    half = len(design) // 2
    weights = np.linalg.lstsq(design[:half].reshape(-1, 41), truth[:half].reshape(-1, 2), rcond=None)[0]
    assert r2(truth[half:], best[half:]) > r2(truth[half:], design[half:] @ weights) + 0.02 > 0.5
    coarse = optimal_velocity(counts, LONG.bin_s, made.truth["tuning"], made.truth["base"], LONG.tau_s, grid=21)
    assert r2(truth, coarse) == pytest.approx(r2(truth, best), abs=2e-3)  # the grid is fine enough
