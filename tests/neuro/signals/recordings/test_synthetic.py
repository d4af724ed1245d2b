"""The stand-ins are the same every time, and what they say they are."""

from __future__ import annotations

import hashlib

import mne
import numpy as np
import pytest

from nbkit.neuro.signals.bands import cumulative_frequency_levels
from nbkit.neuro.signals.recordings import synthetic


def digest(root):
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.npz")):
        with np.load(path) as file:
            for key in sorted(file.files):
                whole.update(key.encode() + file[key].tobytes())
    return whole.hexdigest()


def test_the_same_call_writes_the_same_numbers(tmp_path):
    folders = [
        synthetic.write_dummy_dataset(tmp_path / n, 3, 2, 4, 32, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digest(folders[0]) == digest(folders[1]) != digest(folders[2])
    assert len(list((tmp_path / "a" / "train").iterdir())) == 3 and len(list((tmp_path / "a" / "val").iterdir())) == 2


def test_defaults_are_the_sheets():
    sample = synthetic.dummy_sample(0)
    assert sample["signal"].shape == (32, 128) and sample["cumulative_bands"].shape == (5, 32, 128)
    np.testing.assert_allclose(sample["signal"], sample["cumulative_bands"][-1])


def test_each_band_is_one_tone_at_the_stored_sampling_frequency():
    sample = synthetic.dummy_sample(3, channels=4, steps=1000)
    increments = np.diff(sample["cumulative_bands"], axis=0, prepend=0)
    power = np.abs(np.fft.rfft(increments, axis=-1)) ** 2
    peaks = np.fft.rfftfreq(1000, 1 / float(sample["sfreq"]))[power.argmax(axis=-1)]
    np.testing.assert_allclose(peaks, np.repeat(sample["bands"].mean(axis=1)[:, None], 4, axis=1), atol=0.11)
    amplitude = np.sqrt(2 * (increments**2).mean(axis=-1))
    assert 0.78 < amplitude.min() and amplitude.max() < 1.22


def test_phases_are_the_same_in_every_sample():
    one, two = (np.diff(synthetic.dummy_sample(i)["cumulative_bands"], axis=0, prepend=0) for i in (0, 1))
    correlation = [np.corrcoef(one[b, c], two[b, c])[0, 1] for b in range(5) for c in range(32)]
    np.testing.assert_allclose(correlation, 1.0, atol=1e-4)


def test_a_folder_with_other_samples_is_refused(tmp_path):
    synthetic.write_dummy_dataset(tmp_path, 2, 1, 2, 16)
    with pytest.raises(FileExistsError, match="1 other npz files"):
        synthetic.write_dummy_dataset(tmp_path, 1, 1, 2, 16)


def test_the_recording_is_the_same_every_time_and_says_what_it_is():
    one, again, other = (synthetic.recording(1, run, duration_s=10) for run in (3, "3", 4))
    np.testing.assert_array_equal(one.signal, again.signal)
    assert not np.array_equal(one.signal, other.signal)
    assert "stand-in" in one.data and one.signal.shape == (64, 1600)


def test_the_recordings_tones_fall_into_the_default_bands():
    made = synthetic.recording(n_chans=2, duration_s=60)
    signal = mne.filter.resample(made.signal, up=100.0, down=made.sfreq, verbose="error")
    increments = np.diff(cumulative_frequency_levels(signal, 100.0), axis=0, prepend=0)
    rms = np.sqrt((increments[..., 1000:-1000] ** 2).mean(axis=(1, 2)))
    assert (np.diff(rms) < 0).all() and 20 < rms[0] < 40
