"""A recording in, an embedding a second out: times and cuts by hand, on real recordings of four montages."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest
import torch

from nbkit.neuro.decoding.models.own_models import own_model
from nbkit.neuro.decoding.models.recording_embedding import embed_recording
from nbkit.neuro.decoding.models.registry import TEN_TWENTY, load_model
from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.recording import Recording
from tests.neuro.signals.test_positions import EGI


class Mean(torch.nn.Module):
    """A window's mean a channel: what it says is where the window was."""

    key, ch_names, sfreq, n_times, dim = "mean", ("C3", "Cz"), 100.0, 200, 2
    weights, lora_layers = "none", ()

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, windows):
        return windows.mean(-1) * self.one


def ramp(sfreq, seconds, names=("C3", "Cz")):
    """Channels that say the time in s, so that a window's mean is its middle."""
    time = np.arange(round(sfreq * seconds)) / sfreq
    return Recording(np.tile(time, (len(names), 1)), sfreq, tuple(names))


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 250.0, 1000.0])
@pytest.mark.parametrize("every", [1.0, 0.25])
def test_an_embedding_is_of_the_window_around_its_time(sfreq, every):
    found = embed_recording(ramp(sfreq, 10.0), own_model(Mean()), every)
    assert found.times_s[0] == 1.0 and found.times_s[-1] == 9.0  # half a window from both ends
    np.testing.assert_allclose(np.diff(found.times_s), every)
    assert len(found.embeddings) == len(found.times_s) == 8 / every + 1
    # the last sample of a window is one step before its end
    np.testing.assert_allclose(found.embeddings[:, 0] + 0.005, found.times_s, atol=2e-3)


def test_no_window_crosses_a_gap_and_times_are_the_recordings_own():
    whole = ramp(100.0, 10.0)
    parts = (Stretch(0, 450, 0.0), Stretch(450, 600, 60.0), Stretch(600, 1000, 100.0))
    found = embed_recording(replace(whole, stretches=parts), own_model(Mean()))
    assert found.times_s.tolist() == [1.0, 2.0, 3.0, 101.0, 102.0, 103.0]  # the second part is too short
    np.testing.assert_allclose(found.embeddings[:, 0] + 0.005, [1, 2, 3, 7, 8, 9], atol=2e-3)
    with pytest.raises(ValueError, match=r"has 1.50 s without a gap, a window of mean 2 s"):
        embed_recording(replace(whole, stretches=(parts[1], Stretch(0, 100, 0.0))), own_model(Mean()))


def test_a_rest_shorter_than_a_step_is_not_filled_up():
    found = embed_recording(ramp(100.0, 10.9), own_model(Mean()), batch_size=3)
    assert found.times_s[-1] == 9.0
    with pytest.raises(ValueError, match=r"The recording has 1.50 s, a window of mean 2 s"):
        embed_recording(ramp(100.0, 1.5), own_model(Mean()))
    with pytest.raises(ValueError, match="every=0"):
        embed_recording(ramp(100.0, 10.0), own_model(Mean()), 0)


def test_as_windows_that_were_cut_and_prepared_by_hand():
    draws = np.random.default_rng(0)
    recording = Recording(np.cumsum(draws.normal(size=(19, 2000)), 1), 200.0, TEN_TWENTY)
    model = load_model("cbramod", window=2.0)
    found = embed_recording(recording, model, filtered=False)
    cut = np.stack([recording.signal[:, 200 * second : 200 * second + 400] for second in range(9)])
    truth = model.embed(model.prepare(cut, TEN_TWENTY, 200.0))
    np.testing.assert_allclose(found.embeddings, truth, atol=1e-4)
    assert found.weights == "random, seed 0" and found.window_s == 2.0
    assert not np.allclose(embed_recording(recording, model).embeddings, truth, atol=1e-2)  # filtered


@pytest.mark.parametrize("key", ["labram", "cbramod", "signaljepa"])
def test_eegbci(key, eegbci_folder):
    from nbkit.neuro.signals.recordings.eegbci import cached_path

    raw = mne.io.read_raw_edf(cached_path(1, 3), verbose="error").crop(0, 12)
    found = embed_recording(raw, key, weights="random", window=2.0)
    dim = {"labram": 200, "cbramod": 200, "signaljepa": 64}[key]
    assert found.embeddings.shape == (11, dim) and np.isfinite(found.embeddings).all()
    assert found.embeddings.std(0).max() > 1e-4
    kept = {"labram": 64, "cbramod": 64, "signaljepa": 48}[key]
    assert any(f"{kept} of {kept} channels by name" in words for words in found.said)


def test_numbered_channels_with_digitised_positions(shared_data):
    """60 channels called EEG 001 to EEG 060 at 600.6 Hz, one of them bad."""
    raw = mne.io.read_raw_fif(shared_data / "eeg_mne_small" / "mne_sample_eeg60_raw.fif", verbose="error").crop(0, 8)
    raw.info["bads"] = ["EEG 010"]
    found = embed_recording(raw, "labram", weights="random", window=2.0)
    assert found.embeddings.shape == (7, 200)
    assert "resampled from 600.615 to 200 Hz" in found.said
    assert any("62 interpolated" in words for words in found.said)


def test_a_biosemi_cap_by_its_template(shared_data):
    path = shared_data / "eeg_mne_small" / "biosemi138_test.edf"
    raw = mne.io.read_raw_edf(path, verbose="error").load_data()
    raw.pick(raw.ch_names[:128])  # A1 to H16; what follows is no cap
    with pytest.raises(ValueError, match="does not know the channels"):
        embed_recording(raw, "labram", weights="random", window=2.0)
    found = embed_recording(raw, "labram", weights="random", window=2.0, template="biosemi256")
    assert found.embeddings.shape == (5, 200) and "0 of 62 channels by name" in found.said


@pytest.mark.parametrize("reference", [[], ["Cz"], ["E129"]])
@pytest.mark.parametrize("located", [True, False])
def test_hydrocel_nets_with_and_without_their_reference_and_montage(reference, located):
    names = EGI + reference
    draws = np.random.default_rng(0)
    info = mne.create_info(names, 250.0, "eeg")
    raw = mne.io.RawArray(draws.normal(size=(len(names), 1250)) * 2e-5, info, verbose="error")
    if located and reference != ["E129"]:
        raw.set_montage("GSN-HydroCel-129" if reference else "GSN-HydroCel-128")
    found = embed_recording(raw, "labram", weights="random", window=2.0)
    assert found.embeddings.shape == (4, 200)
    assert any("of 62 channels by name" in words for words in found.said)


def test_a_muse_band_of_four(shared_data):
    path = next((shared_data / "eeg_cueing_muse").rglob("*_eeg.edf"))
    raw = mne.io.read_raw_edf(path, verbose="error").crop(0, 6)
    found = embed_recording(raw, "labram", weights="random", window=2.0)
    assert found.embeddings.shape == (5, 200) and "4 of 4 channels by name" in found.said
    with pytest.raises(ValueError, match="splines need 8 channels with positions, there are 4"):
        embed_recording(raw, "biot", weights="random", window=2.0)


def test_the_hub_is_asked_unless_random_weights_are_wanted(monkeypatch):
    fetch = "nbkit.neuro.decoding.models.registry.fetch"
    monkeypatch.setattr(fetch, lambda spec: (_ for _ in ()).throw(ValueError("no hub")))
    with pytest.raises(ValueError, match="no hub"):
        embed_recording(ramp(200.0, 10.0), "labram")


def test_values_that_are_not_finite_are_named():
    recording = ramp(100.0, 10.0)
    recording.signal[1, 5] = np.inf
    with pytest.raises(ValueError, match="not finite in Cz; mark these channels as bad"):
        embed_recording(recording, own_model(Mean()))
