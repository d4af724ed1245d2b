"""Cumulative bands against filters of another library, and against what is known of sinusoids."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from scipy import signal as sps

from nbkit.neuro.signals.bands import DEFAULT_BANDS, band_names, cumulative_frequency_levels, effective_bands

SEED_BANDS = [(0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 50.0)]


def noise(channels=4, seconds=60, sfreq=100, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, int(seconds * sfreq)))


def test_the_seeds_own_example_works():
    levels = cumulative_frequency_levels(noise(64, 5), 100.0, bands=SEED_BANDS)
    assert levels.shape == (5, 64, 500) and np.isfinite(levels).all()


def test_last_level_is_the_band_limited_signal_by_mne():
    x = noise()
    once = mne.filter.filter_data(x, 100.0, 0.5, 49.0, fir_design="firwin", filter_length=661, verbose="error")
    np.testing.assert_allclose(cumulative_frequency_levels(x, 100.0, DEFAULT_BANDS)[-1], once, atol=1e-10)


def test_last_level_is_the_band_limited_signal_by_scipy():
    x = noise(2, 120)
    ideal = sps.sosfiltfilt(sps.butter(8, [0.4, 49.0], "bandpass", fs=100.0, output="sos"), x)
    last = cumulative_frequency_levels(x, 100.0)[-1]
    inner = slice(1000, -1000)
    assert np.corrcoef(last[0, inner], ideal[0, inner])[0, 1] > 0.98


@pytest.mark.parametrize("stage", range(5))
def test_each_level_is_the_signal_below_its_upper_edge(stage):
    x = noise(1, 120)
    high = (4, 8, 13, 30, 49)[stage]
    ideal = sps.sosfiltfilt(sps.butter(8, [0.4, high], "bandpass", fs=100.0, output="sos"), x)
    inner = slice(1000, -1000)
    assert np.corrcoef(cumulative_frequency_levels(x, 100.0)[stage, 0, inner], ideal[0, inner])[0, 1] > 0.95


def test_a_tone_is_in_its_band_and_in_no_other():
    time = np.arange(6000) / 100
    x = np.stack([np.sin(2 * np.pi * f * time) for f in (2.0, 6.0, 10.5, 20.0, 40.0)])
    increments = np.diff(cumulative_frequency_levels(x, 100.0), axis=0, prepend=0)[..., 1000:-1000]
    power = (increments**2).mean(axis=-1) / 0.5  # (band, tone)
    np.testing.assert_allclose(power, np.eye(5), atol=0.02)


def test_a_tone_on_a_shared_edge_is_counted_once():
    time = np.arange(6000) / 100
    x = np.sin(2 * np.pi * 8.0 * time)[None]
    last = cumulative_frequency_levels(x, 100.0)[-1, 0, 1000:-1000]
    np.testing.assert_allclose(last, x[0, 1000:-1000], atol=0.01)


def test_filters_have_zero_phase():
    x = noise(1, 30)
    forward = cumulative_frequency_levels(x, 100.0)
    backward = cumulative_frequency_levels(x[:, ::-1], 100.0)[..., ::-1]
    np.testing.assert_allclose(forward, backward, atol=1e-10)


def test_a_segment_shorter_than_the_filter_is_mirrored_and_stays_itself():
    time = np.arange(500) / 100
    x = np.cos(2 * np.pi * 2.0 * time)[None]  # whole periods: its mirror image goes on smoothly
    np.testing.assert_allclose(cumulative_frequency_levels(x, 100.0)[0, 0, 50:-50], x[0, 50:-50], atol=0.03)


def test_bands_that_touch_nothing_are_mnes_own():
    x = noise()
    levels = cumulative_frequency_levels(x, 100.0, [(1, 4), (8, 12)])
    alone = mne.filter.filter_data(x, 100.0, 8, 12, fir_design="firwin", filter_length=331, verbose="error")
    np.testing.assert_allclose(levels[1] - levels[0], alone, atol=1e-10)


@pytest.mark.parametrize("bands", [[(0, 4), (4, 8)], [(4, 4.5), (4.5, 5)], [(0.5, 49.0)]])
def test_narrow_and_low_pass_bands_sum_too(bands):
    x = noise(1, 200)
    levels = cumulative_frequency_levels(x, 100.0, bands)
    assert np.isfinite(levels).all() and levels.shape == (len(bands), 1, 20000)


def test_kind_of_number_is_kept():
    assert cumulative_frequency_levels(noise().astype(np.float32), 100.0).dtype == np.float32
    assert cumulative_frequency_levels((100 * noise()).astype(int), 100.0).dtype == np.float64


def test_effective_bands_hold_the_upper_edge():
    assert effective_bands(SEED_BANDS, 100.0)[-1] == (30.0, 49.0)
    assert effective_bands(SEED_BANDS, 250.0)[-1] == (30.0, 50.0)


@pytest.mark.parametrize(
    "bands, sfreq, words",
    [
        ([(30, 50)], 50.0, "begins above 24.5 Hz"),
        ([(8, 4)], 100.0, "0 <= l_freq < h_freq"),
        ([(np.nan, 4)], 100.0, "is no band"),
        ([], 100.0, "bands is empty"),
        ([(1, 4)], 0.0, "sfreq=0.0"),
    ],
)
def test_impossible_bands_are_refused_in_words(bands, sfreq, words):
    with pytest.raises(ValueError, match=words):
        effective_bands(bands, sfreq)


def test_signals_that_cannot_be_filtered_are_refused_in_words():
    broken = noise()
    broken[2, 7] = np.nan
    with pytest.raises(ValueError, match=r"1 of 4 channels \(first: 2\)"):
        cumulative_frequency_levels(broken, 100.0)
    with pytest.raises(ValueError, match=r"must be \(channels, time\)"):
        cumulative_frequency_levels(broken[0], 100.0)


def test_names():
    assert band_names(effective_bands(SEED_BANDS, 100.0)) == ("delta", "theta", "alpha", "beta", "gamma")
