"""Preparing windows: planted rhythms keep their frequency, what would fold back is gone, nothing is made up."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.decoding.models.channels import plan_channels
from nbkit.neuro.decoding.models.preparing import prepare, resample

NAMES = ("C3", "Cz", "C4")


def rhythm(sfreq, seconds, frequency, windows=2):
    """One frequency in three channels, each with a phase and an offset of its own."""
    time = np.arange(round(sfreq * seconds)) / sfreq
    phase = np.arange(3)[:, None] * 0.7
    one = 20 * np.sin(2 * np.pi * frequency * time + phase) + 100.0 * (1 + np.arange(3)[:, None])
    return np.stack([one] * windows)


def prepared(windows, sfreq, to_sfreq, n_times, targets=NAMES, recipe="microvolt", names=NAMES):
    return prepare(windows, sfreq, plan_channels(names, targets), to_sfreq, n_times, recipe, "labram")


@pytest.mark.parametrize("sfreq", [100.0, 128.0, 160.0, 250.0, 256.0, 500.0, 600.615, 1000.0])
@pytest.mark.parametrize("to_sfreq", [128.0, 200.0, 256.0])
def test_a_planted_rhythm_keeps_its_frequency_phase_and_size(sfreq, to_sfreq):
    windows = rhythm(sfreq, 4.0, 10.0)
    signal = prepared(windows, sfreq, to_sfreq, int(3.9 * to_sfreq)).array
    begin = (int(np.ceil(windows.shape[-1] * to_sfreq / sfreq - 1e-6)) - signal.shape[-1]) // 2
    time = (begin + np.arange(signal.shape[-1])) / to_sfreq
    truth = 20 * np.sin(2 * np.pi * 10 * time + 1.4) + 300
    middle = slice(signal.shape[-1] // 8, -signal.shape[-1] // 8)
    np.testing.assert_allclose(signal[1, 2, middle], truth[middle], atol=0.4)
    spectrum = np.abs(np.fft.rfft(signal[0, 1] - signal[0, 1].mean(), 8192))
    assert np.fft.rfftfreq(8192, 1 / to_sfreq)[spectrum.argmax()] == pytest.approx(10.0, abs=0.05)


def test_what_the_new_rate_cannot_show_does_not_fold_back():
    high = rhythm(500.0, 4.0, 130.0)  # would show at 70 Hz of 200
    found = prepared(high, 500.0, 200.0, 800).array
    assert found[0, 0, 100:700].std() < 0.02 * high[0, 0].std()
    picked = high[..., ::5][..., 20:340]  # the probe: leaving samples out folds it back
    assert picked[0, 0].std() > 0.9 * high[0, 0].std()


def test_resampling_is_scipys_of_the_whole_and_leaves_shapes():
    signal = np.random.default_rng(0).normal(size=(2, 3, 500))
    assert resample(signal, 250.0, 200.0).shape == (2, 3, 400)
    assert resample(signal.astype(np.float32), 250.0, 200.0).dtype == np.float32
    np.testing.assert_allclose(resample(signal[1, 2], 250.0, 200.0), resample(signal, 250.0, 200.0)[1, 2])
    assert resample(signal, 600.614990234375, 200.0).shape[-1] == 167


def test_the_middle_of_a_longer_window_is_kept_and_said():
    windows = np.tile(np.arange(1000.0), (2, 3, 1))
    found = prepared(windows, 200.0, 200.0, 400)
    assert np.array_equal(found.array[0, 0], np.arange(300, 700)) and found.array.dtype == np.float32
    assert found.said == ("3 of 3 channels by name", "the middle 2.000 of 5.000 s", "in uV, not scaled")
    exact = prepared(windows[..., :400], 200.0, 200.0, 400)
    assert len(exact) == 2 and not any("middle" in words for words in exact.said)


def test_channels_go_first_and_every_step_is_said():
    windows = rhythm(250.0, 2.0, 10.0)
    found = prepared(windows, 250.0, 200.0, 400, ("C3-C4", "Cz"), "hundredth")
    assert found.said == (
        "1 of 2 channels by name", "1 as differences (C3-C4 = C3 - C4)", "resampled from 250 to 200 Hz",
        "in units of 100 uV",
    )  # fmt: skip
    alone = prepared(windows[:, [0]] - windows[:, [2]], 250.0, 200.0, 400, ["X"], "hundredth", ["X"])
    np.testing.assert_allclose(found.array[:, 0], alone.array[:, 0], atol=1e-5)


def test_refuses_what_it_would_have_to_make_up():
    windows = rhythm(200.0, 2.0, 10.0)
    with pytest.raises(
        ValueError, match=r"Windows of 400 samples at 200 Hz \(2.000 s\); labram was built for 4 s, and"
    ):
        prepared(windows, 200.0, 200.0, 800)
    windows[1, 2, 7] = np.nan
    with pytest.raises(
        ValueError, match=r"1 of 2 windows hold values that are not finite \(the first: window 1, channel C4"
    ):
        prepared(windows, 200.0, 200.0, 400)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 400\) for 3 channel names"):
        prepared(windows[:, :2], 200.0, 200.0, 400)
    with pytest.raises(ValueError, match=r"shape \(3, 400\)"):
        prepared(windows[0], 200.0, 200.0, 400)


def test_whole_numbers_of_a_file_are_taken_as_numbers():
    found = prepared((rhythm(200.0, 2.0, 10.0)).astype(np.int16), 200.0, 200.0, 400)
    assert found.array.dtype == np.float32 and found.array.std() > 1
