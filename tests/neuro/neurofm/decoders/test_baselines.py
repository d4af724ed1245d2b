"""The rivals: right where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.neurofm.decoders.baselines import fit_gru, fit_wiener
from nbkit.neuro.neurofm.decoders.bayes import BayesianDirection
from nbkit.neuro.neurofm.decoders.scores import angle_error_deg
from nbkit.neuro.signals.spikes.binned import bin_recording
from nbkit.neuro.signals.spikes.nwb import load_nwb
from tests.neuro.neurofm.spike_files import variance_explained


def filtered(windows=60, seed=0):
    """Counts, and a behaviour that is a linear filter of their roots, two bins late."""
    draws = np.random.default_rng(seed)
    counts = draws.poisson(2.0, size=(windows, 20, 3)).astype(float)
    late = np.zeros((windows, 20, 2))
    late[:, 2:] = np.sqrt(counts)[:, :-2] @ draws.normal(size=(3, 2))
    return counts, late + 4.0


def test_a_linear_filter_is_found():
    counts, behaviour = filtered()
    found = fit_wiener(counts[:40], behaviour[:40], lags=3)
    assert variance_explained(behaviour[40:], found(counts[40:])) > 0.999
    too_short = fit_wiener(counts[:40], behaviour[:40], lags=1)
    assert variance_explained(behaviour[40:], too_short(counts[40:])) < 0.2
    with_gaps = behaviour.copy()
    with_gaps[::3, 5] = np.nan
    assert variance_explained(behaviour[40:], fit_wiener(counts[:40], with_gaps[:40], lags=3)(counts[40:])) > 0.999


def test_noise_gets_the_strongest_ridge():
    draws = np.random.default_rng(0)
    counts, noise = draws.poisson(1.0, size=(10, 20, 30)).astype(float), draws.normal(size=(10, 20, 1))
    found = fit_wiener(counts, noise, lags=3)
    assert found.ridge >= 1e4
    more = draws.poisson(1.0, size=(50, 20, 30)).astype(float)
    assert abs(found(more)).mean() < 0.3


@pytest.mark.train
def test_a_gru_finds_a_filter_too():
    counts, behaviour = filtered()
    with_gaps = behaviour.copy()
    with_gaps[::3, 5] = np.nan
    found = fit_gru(counts[:50], with_gaps[:50], steps=250, width=16, lr=1e-2)
    assert variance_explained(behaviour[50:], found.decode_windows(counts[50:])) > 0.7
    again = fit_gru(counts[:50], with_gaps[:50], steps=250, width=16, lr=1e-2)
    assert np.array_equal(again.decode_windows(counts[50:]), found.decode_windows(counts[50:]))


def test_bayes_is_the_posterior_of_known_tuning():
    draws = np.random.default_rng(0)
    angle = draws.uniform(0, 2 * np.pi, 20_000)
    preferred = np.arange(12) * 2 * np.pi / 12
    counts = draws.poisson(2 * np.exp(2 * (np.cos(angle[:, None] - preferred) - 1)))
    decoded = BayesianDirection(counts[:15_000], angle[:15_000])(counts[15_000:])
    grid = np.arange(360) * np.pi / 180
    rate = 2 * np.exp(2 * (np.cos(grid[:, None] - preferred) - 1))
    log = counts[15_000:] @ np.log(rate).T - rate.sum(axis=1)
    posterior = np.exp(log - log.max(axis=1, keepdims=True))
    best = np.angle(posterior @ np.exp(1j * grid))
    errors = [np.median(angle_error_deg(found, angle[15_000:])) for found in (decoded, best)]
    assert errors[0] < 1.05 * errors[1] < 25


def test_angles_differ_around_the_circle():
    assert angle_error_deg(np.array([0.1, np.pi, 0.0]), np.array([2 * np.pi - 0.1, -np.pi, np.pi])) == pytest.approx(
        [np.degrees(0.2), 0, 180], abs=1e-6
    )
    draws = np.random.default_rng(0)
    assert np.median(angle_error_deg(draws.uniform(0, 7, 9999), draws.uniform(-9, 9, 9999))) == pytest.approx(90, abs=3)


def test_a_real_mouses_head_direction_is_decoded(shared_data):
    path = shared_data / "spikes_hd_mouse" / "A2929-200711.nwb"
    if not path.is_file():
        pytest.skip("the mouse's recording (../shared/data/spikes_hd_mouse) is not here")
    mouse = load_nwb(path, behaviour=("ry",))
    times = mouse.behaviour["ry"].times
    binned = bin_recording(mouse.within(times[0], times[-1]).keep(np.arange(7)), 0.2, "ry")
    angle = np.arctan2(binned.behaviour[:, 1], binned.behaviour[:, 0])
    half = len(angle) // 2
    decoded = BayesianDirection(binned.counts[:half], angle[:half])(binned.counts[half:])
    assert np.median(angle_error_deg(decoded, angle[half:])) == pytest.approx(10.8, abs=0.6)  # PROVENANCE says 10.8
    # A mouse does not face all directions alike, so a constant guess is a little better than 90 degrees.
    constant = np.median(angle_error_deg(np.angle(np.exp(1j * angle[:half]).mean()), angle[half:]))
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(angle)
        lost = BayesianDirection(binned.counts[:half], shuffled[:half])(binned.counts[half:])
        assert np.median(angle_error_deg(lost, shuffled[half:])) > 60 and constant > 50


def test_far_lags_share_weights():
    draws = np.random.default_rng(0)
    counts = draws.poisson(2.0, size=(40, 60, 2)).astype(float)
    roots = np.sqrt(counts)
    wide = np.stack([np.convolve(row, np.ones(9), "same") for row in roots[:, :, 0]])[..., None]  # 4 bins to each side
    found = fit_wiener(counts[:30], wide[:30], lags=15)
    assert found.weights.shape == (2 * 11 + 1, 1)
    assert variance_explained(wide[30:], found(counts[30:])) > 0.999
    assert fit_wiener(counts, wide, lags=7).weights.shape == (2 * 7 + 1, 1)
