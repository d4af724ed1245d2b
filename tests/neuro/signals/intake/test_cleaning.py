"""The declared cleaning, beside MNE's own on the same parts."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.reading import read_recording
from tests.neuro.signals.intake.edf_files import brain_waves

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Cz", "Pz"]


def raw_of(signal=None, sfreq=250.0, seed=0):
    signal = brain_waves(len(NAMES), 20, sfreq, seed) if signal is None else signal
    return mne.io.RawArray(signal * 1e-6, mne.create_info(NAMES, sfreq, "eeg"), verbose="error")


@pytest.mark.parametrize("cleaning", [Cleaning.labram(), Cleaning.challenge(), Cleaning(), Cleaning.none(100.0)])
def test_presets_do_what_mne_does_in_their_order(cleaning):
    raw = raw_of()
    found = read_recording(raw, cleaning)
    truth = raw.copy()
    if cleaning.notch:
        truth.notch_filter(np.arange(cleaning.notch, 125 * 0.98, cleaning.notch), pad="symmetric", verbose="error")
    if cleaning.l_freq or cleaning.h_freq:
        truth._data -= truth._data.mean(axis=1, keepdims=True)
        truth.filter(cleaning.l_freq, cleaning.h_freq, pad="symmetric", verbose="error")
    truth.resample(cleaning.sfreq, verbose="error")
    order = [NAMES.index(name) for name in found.ch_names]
    np.testing.assert_allclose(found.signal, truth.get_data()[order] * 1e6, rtol=1e-6, atol=1e-6)
    assert found.facts.cleaning["notch"] == cleaning.notch


def test_an_offset_and_the_mains_are_removed():
    signal = brain_waves(len(NAMES), 60, 250)
    time = np.arange(signal.shape[1]) / 250
    disturbed = signal + 100.0 + 40 * np.sin(2 * np.pi * 50 * time)
    one, other = (read_recording(raw_of(s), Cleaning.labram()).signal[:, 800:-800] for s in (signal, disturbed))
    assert np.abs(one - other).max() < 0.05 * one.std()


def test_bad_channels_are_interpolated_dropped_or_kept():
    common = brain_waves(1, 20, 250, 5)
    raw = raw_of(common + 0.2 * brain_waves(len(NAMES), 20, 250))
    raw._data[NAMES.index("Cz")] *= 100
    raw.info["bads"] = ["P3"]
    found = {bads: read_recording(raw, Cleaning(250.0, bads=bads)) for bads in ("interpolate", "drop", "keep")}
    assert set(found["interpolate"].facts.repaired) == {"Cz", "P3"} == set(found["drop"].facts.bads)
    assert {"Cz", "P3"} & set(found["drop"].ch_names) == set() and len(found["keep"].ch_names) == 12
    mended = found["interpolate"].signal[found["interpolate"].ch_names.index("Cz")]
    assert np.corrcoef(mended, read_recording(raw_of(np.repeat(common, 12, 0)), Cleaning(250.0)).signal[0])[0, 1] > 0.9


def test_the_average_reference_leaves_no_mean():
    found = read_recording(raw_of(), Cleaning(100.0, reference="average"))
    assert np.abs(found.signal.mean(axis=0)).max() < 1e-6


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(sfreq=0.0), "positive rate"), (dict(l_freq=50.0, h_freq=10.0), "l_freq < h_freq"),
        (dict(notch=16.7), "no frequency of the mains"), (dict(reference="Cz"), "REFERENCE"), (dict(bads="x"), "BADS"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Cleaning(**wrong)
