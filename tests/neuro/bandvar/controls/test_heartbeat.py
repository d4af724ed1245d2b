"""Heartbeats are found in the EEG where they are, and a predictor is scored near them and away from them."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.baselines import stage_pairs
from nbkit.neuro.bandvar.controls.heartbeat import skill_by_heartbeat
from nbkit.neuro.bandvar.data import EEGFrequencyDataset
from nbkit.neuro.signals.artifacts import find_beats
from nbkit.neuro.signals.windows.shards import write_signal

SECONDS = 40


def recording(seed, beating):
    """Two channels of slow noise; one of them with a sharp wave about every 0.85 s."""
    draws = np.random.default_rng(seed)
    time = np.arange(SECONDS * 100) / 100
    signal = np.cumsum(draws.normal(size=(2, time.size)), axis=1)
    beats = np.arange(0.5, SECONDS - 0.5, 0.85)
    beats = beats + 0.02 * draws.normal(size=beats.size)
    if beating:
        signal[1] += 60 * sum(np.exp(-(((time - at) / 0.02) ** 2)) for at in beats)
    return signal - signal.mean(axis=1, keepdims=True), beats


def written(folder, beating):
    for number in range(2):
        cuts = {"windows": (np.arange(0, SECONDS * 100 - 200, 200), 200, {})}
        named = dict(ch_names=["C3", "T9"], subject=f"S{number}", data="synthetic", run="1")
        write_signal(folder / f"S{number}", recording(number, beating)[0], sfreq=100.0, cuts=cuts, **named)
    return EEGFrequencyDataset([folder / f"S{number}" / "windows.json" for number in range(2)])


def test_beats_are_found_where_they_are():
    signal, beats = recording(0, True)
    number, found, rate = find_beats(signal, 100.0)
    assert number == 1 and rate == pytest.approx(60 / 0.85, rel=0.03)
    assert np.median(np.abs(found[:, None] / 100 - beats).min(axis=1)) < 0.02 and len(found) > 0.9 * len(beats)
    assert find_beats(recording(0, False)[0], 100.0) is None


def test_a_skill_near_the_beats_is_told_from_one_everywhere(tmp_path):
    dataset = written(tmp_path, True)
    starts = {levels.numpy().tobytes(): start for levels, start in zip(dataset, dataset.shards.starts, strict=False)}
    beats = recording(0, True)[1], recording(1, True)[1]
    shard = dict(zip(starts, dataset.shards.shard_of, strict=True))

    def near_only(levels):
        inputs, targets = stage_pairs(levels)
        made = inputs.copy()
        for window in range(len(levels)):
            key = levels[window].tobytes()
            at = (starts[key] + np.arange(200)) / 100
            near = np.abs(at[:, None] - beats[shard[key]]).min(axis=1) < 0.12
            made[window][..., near] = targets[window][..., near]
        return made

    found = skill_by_heartbeat(near_only, dataset)
    assert found.searched == found.found == 2
    assert found.near.min() > 0.95 and np.abs(found.away).max() < 0.2 and "71 a minute" in found.words()
    half = skill_by_heartbeat(lambda levels: sum(stage_pairs(levels)) / 2, dataset)
    np.testing.assert_allclose([half.near, half.away], 0.75, atol=1e-4)


def test_eeg_without_a_heart_has_no_such_score(tmp_path):
    found = skill_by_heartbeat(lambda levels: levels, written(tmp_path, False))
    assert (found.searched, found.found) == (2, 0) and "No channel of 2" in found.words()
