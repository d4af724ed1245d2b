"""Heads in closed form: the planted map is found, and few labels do not overfit more than they must."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from nbkit.neuro.neurofm.decoders.probe import _ridge, fit_lda, fit_probe
from tests.neuro.neurofm.spike_files import variance_explained


def planted(windows, noise=0.1, features=6, seed=0):
    draws = np.random.default_rng(seed)
    states = draws.normal(size=(windows, 20, features))
    behaviour = states @ np.arange(1.0, features + 1)[:, None] + 3 + noise * draws.normal(size=(windows, 20, 1))
    return states, behaviour


def test_the_planted_map_is_found_and_unknown_bins_are_left_out():
    states, behaviour = planted(12)
    gaps = behaviour[:4].copy()
    gaps[:, ::3] = np.nan
    decoded = fit_probe(states[:4], gaps, states[4:], behaviour[4:], False)
    assert variance_explained(behaviour[4:], decoded) > 0.99
    assert np.isfinite(fit_probe(states[:1], behaviour[:1], states[4:], behaviour[4:], False)).all()


def test_noise_gets_a_strong_penalty():
    states, _ = planted(12, features=19)
    noise = np.random.default_rng(1).normal(size=(12, 20, 1))
    decoded = fit_probe(states[:3], noise[:3], states[3:], noise[3:], False)
    assert variance_explained(noise[3:], decoded) > -0.15


def test_the_ridge_is_that_of_scikit_learn():
    states, behaviour = planted(2)
    rows, target = states.reshape(-1, 6), behaviour.reshape(-1, 1)
    weights, shift = _ridge(rows, target, 0.5)
    centred = rows - rows.mean(axis=0)
    theirs = Ridge(alpha=0.5 * np.trace(centred.T @ centred) / 6).fit(rows, target)
    assert np.allclose(weights.T, theirs.coef_) and np.allclose(shift, theirs.intercept_)


@pytest.mark.parametrize("count", [1, 2, 4, 40])
def test_classes_are_told_apart_with_any_number_of_labels(count):
    draws = np.random.default_rng(0)
    label = np.arange(count + 60) % 2
    states = draws.normal(size=(len(label), 5, 3)) + 4 * label[:, None, None]
    behaviour = np.repeat(np.eye(2)[label][:, None], 5, axis=1)
    behaviour[:, 0] = np.nan
    decoded = fit_lda(states[:count], behaviour[:count], states[count:], behaviour[count:])
    right = np.nan_to_num(decoded).sum(axis=1).argmax(axis=1) == label[count:]
    assert right.mean() == pytest.approx(0.5) if count == 1 else right.mean() > 0.95
