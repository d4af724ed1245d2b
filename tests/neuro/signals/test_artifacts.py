"""Planted blinks and heartbeats are removed, and what a recording does not show is refused in words."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nbkit.neuro.signals.artifacts import remove_artifacts
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.reading import read_recording

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"]
SFREQ, SECONDS = 200.0, 40


def planted(seed=0):
    """Return brain activity, blinks and heartbeats as (channels, time) in V, and the ECG."""
    draws = np.random.default_rng(seed)
    time = np.arange(int(SECONDS * SFREQ)) / SFREQ
    sources = np.cumsum(draws.laplace(size=(6, time.size)), axis=1)
    sources = mne.filter.filter_data(sources, SFREQ, 1.0, 40.0, verbose="error")
    brain = 8e-6 * draws.normal(size=(8, 6)) @ (sources / sources.std(axis=1, keepdims=True)) / 6**0.5
    brain += 0.3e-6 * draws.normal(size=brain.shape)
    blink = sum(np.exp(-(((time - at) / 0.1) ** 2)) for at in np.arange(2, SECONDS - 1, 3.7))
    beats = np.arange(0.5, SECONDS - 0.5, 0.85) + 0.03 * draws.normal(size=len(np.arange(0.5, SECONDS - 0.5, 0.85)))
    beat = sum(np.exp(-(((time - at) / 0.012) ** 2)) for at in beats)
    blinks = 120e-6 * np.array([1, 1, 0.3, 0.3, 0.05, 0.05, 0, 0])[:, None] * blink
    hearts = 25e-6 * np.array([0.2, -0.1, 0.5, -0.4, 0.9, -0.8, 1, -1])[:, None] * beat
    return brain, blinks, hearts, 1e-3 * beat[None]


def raw_of(signal, names=NAMES, more=()):
    types = ["eeg"] * len(names) + [kind for kind, _ in more]
    info = mne.create_info([*names, *(f"{kind.upper()} {kind}" for kind, _ in more)], SFREQ, types)
    return mne.io.RawArray(np.concatenate([signal, *(row for _, row in more)]), info, verbose="error")


def left(signal, planted_in):
    """Return the power of a planted signal that is left, as a share."""
    weights = np.einsum("ct,ct->c", signal, planted_in) / np.maximum(
        np.einsum("ct,ct->c", planted_in, planted_in), 1e-30
    )
    power = np.square(planted_in).mean(axis=1)
    return float(np.average(np.square(weights), weights=power))


def test_blinks_and_heartbeats_go_and_the_brain_stays():
    brain, blinks, hearts, ecg = planted()
    raw = raw_of(brain + blinks + hearts)
    said = remove_artifacts(raw, {"ECG": ecg}, ("blinks", "heartbeat"))
    kept = raw.get_data()
    assert left(blinks + hearts + brain, blinks) > 0.8
    assert left(kept, blinks) < 0.05 and left(kept, hearts) < 0.1
    alike = [np.corrcoef(one, other)[0, 1] for one, other in zip(kept[4:], brain[4:], strict=True)]
    assert min(alike) > 0.8
    assert "of blinks" in said[0] and "0 of blinks" not in said[0] and "of heartbeat" in said[0]


def test_a_recording_is_cleaned_by_its_own_ecg_channel():
    brain, blinks, hearts, ecg = planted(1)
    raw = raw_of(brain + blinks + hearts, more=[("ecg", ecg)])
    found = read_recording(raw, Cleaning(SFREQ, remove=["blinks", "heartbeat"]))
    assert left(found.signal, 1e6 * blinks) < 0.05
    assert any("Independent components removed" in line for line in found.facts.said)
    assert found.facts.cleaning["remove"] == ("blinks", "heartbeat") and "remove" not in Cleaning().as_dict()


def test_a_heartbeat_is_found_without_an_ecg_channel():
    brain, _, hearts, _ = planted(2)
    raw = raw_of(brain + 2 * hearts)
    said = remove_artifacts(raw, {}, ("heartbeat",))
    assert left(raw.get_data(), 2 * hearts) < 0.1 and "beats 7" in said[1]  # one in 0.85 s is 71 a minute


def test_what_a_recording_does_not_show_is_refused():
    brain, *_ = planted()
    with pytest.raises(ValueError, match="no independent component beats like a heart"):
        remove_artifacts(raw_of(brain), {}, ("heartbeat",))
    with pytest.raises(ValueError, match="neither an EOG channel nor Fp1"):
        remove_artifacts(raw_of(brain[2:], NAMES[2:]), {}, ("blinks",))
    with pytest.raises(ValueError, match="give some of blinks, heartbeat, muscle"):
        Cleaning(remove=["sweat"])
