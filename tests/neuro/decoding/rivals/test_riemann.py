"""Covariances in bands against a filter bank, and what each baseline is for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt
from sklearn.model_selection import cross_val_score

from nbkit.neuro.decoding.rivals.riemann import BandCovariances, band_covariances, filter_bank, xdawn

RNG = np.random.default_rng(0)


def test_they_are_those_of_a_filter_bank():
    mixing = RNG.normal(size=(6, 6))
    windows = np.einsum("cd,wdt->wct", mixing, RNG.normal(size=(3, 6, 4000)))
    (found,) = band_covariances(windows, 200.0, [(8.0, 13.0)])
    filtered = sosfiltfilt(butter(6, (8, 13), "bandpass", fs=200.0, output="sos"), windows, axis=-1)
    for ours, its in zip(found, (filtered @ filtered.swapaxes(1, 2)), strict=True):
        assert np.corrcoef(ours.ravel(), its.ravel())[0, 1] > 0.97


def test_correlation_between_channels_is_found_where_powers_are_alike():
    target = np.arange(60) % 2
    windows = RNG.normal(size=(60, 4, 400))
    shared = RNG.normal(size=(60, 400))
    for window, label in enumerate(target):  # the same power, in one class shared by two channels
        windows[window, 0] = shared[window]
        windows[window, 1] = shared[window] if label else RNG.normal(size=400)
    assert cross_val_score(filter_bank("classification", 200.0), windows, target).mean() > 0.95
    deficient = windows - windows.mean(1, keepdims=True)  # average reference: no full rank
    assert np.isfinite(BandCovariances(200.0).fit_transform(deficient)).all()


def test_xdawn_finds_a_response_and_refuses_numbers():
    target = np.arange(60) % 2
    windows = RNG.normal(size=(60, 5, 200)).astype(np.float32)
    response = np.exp(-((np.arange(200) - 60) ** 2) / 200.0)
    windows[target == 1, 2] += 2 * response.astype(np.float32)
    assert cross_val_score(xdawn("classification", 200.0), windows, target).mean() > 0.8
    with pytest.raises(ValueError, match="needs classes"):
        xdawn("regression", 200.0)
