"""Band powers against known sinusoids, and the ridge against scikit-learn's formula."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.training.power_ridge import PowerRidge, log_band_powers


def test_a_sinusoids_power_is_in_its_band_and_is_half_its_square():
    time = np.arange(400) / 100
    window = np.stack([20 * np.sin(2 * np.pi * 10 * time), 8 * np.sin(2 * np.pi * 20 * time), 0 * time])[None]
    powers = log_band_powers(window, 100.0).reshape(3, 5)  # delta, theta, alpha, beta, gamma
    assert powers[0].argmax() == 2 and 10 ** powers[0, 2] == pytest.approx(200, rel=0.01)
    assert powers[1].argmax() == 3 and 10 ** powers[1, 3] == pytest.approx(32, rel=0.01)
    assert np.allclose(powers[2], -3) and np.isfinite(powers).all()  # the flat reference


def test_the_ridge_is_the_normal_equations_and_chooses_by_subject():
    draws = np.random.default_rng(1)
    features = draws.normal(2, 3, size=(60, 4))
    target = features @ [1, -2, 0, 0.5] + draws.normal(size=60)
    ridge = PowerRidge(alphas=[3.0]).fit(features, target, np.repeat(list("abcdef"), 10))
    z = (features - features.mean(0)) / features.std(0)
    weights = np.linalg.solve(z.T @ z + 3.0 * np.eye(4), z.T @ (target - target.mean()))
    np.testing.assert_allclose(ridge.predict(features), z @ weights + target.mean())
    with pytest.raises(ValueError, match="not fitted"):
        PowerRidge().predict(features)


def test_a_penalty_is_chosen_on_other_subjects():
    """Features that tell subjects apart help with the windows of known subjects only."""
    draws = np.random.default_rng(2)
    subject = np.repeat(np.arange(10), 30)
    features = draws.normal(size=(10, 8))[subject] + 0.01 * draws.normal(size=(300, 8))
    target = draws.normal(size=10)[subject]
    assert PowerRidge().fit(features, target, subject).alpha >= 100
    assert PowerRidge().fit(features, target, np.arange(300)).alpha < 1
