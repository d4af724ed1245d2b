"""The made-up HBN: HBN's layout, and couplings that are there exactly as strongly as asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.challenge.metrics import nrmse, nrmse_interval
from nbkit.neuro.signals.hbn.synthetic import (
    STAND_IN,
    SyntheticHBNSettings,
    hbn_ch_names,
    synthetic_recording,
    synthetic_rows,
    write_synthetic_hbn,
)  # fmt: skip
from nbkit.neuro.signals.hbn.windows import HBNWindows, contrast_trials, cut
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.held_out.values import ridge_on_crops

SMALL = SyntheticHBNSettings(subjects=40, n_chans=12, tasks=("RestingState", "contrastChangeDetection"), runs=1,
                             trials=16, seconds=24.0)  # fmt: skip


def test_the_layout_is_hbns():
    settings = SyntheticHBNSettings(subjects=1, seconds=10.0)
    rows = synthetic_rows(settings)
    assert [row["key"] for row in rows][-1] == "sub-SYN0001_task-contrastChangeDetection_run-2"
    made = synthetic_recording(rows[0], settings)
    signal = made.recording.signal
    assert signal.shape == (129, 1000) and made.recording.sfreq == 100.0 and made.recording.data == STAND_IN
    assert made.recording.ch_names == hbn_ch_names() and hbn_ch_names()[::128] == ("E1", "Cz")
    assert (signal[-1] == 0).all() and 5 < signal[:-1].std() < 50  # Cz is the reference; uV


def test_the_same_row_gives_the_same_numbers_in_any_order():
    rows = synthetic_rows(SMALL)
    once = synthetic_recording(rows[5], SMALL)
    synthetic_recording(rows[0], SMALL)
    again = synthetic_recording(rows[5], replace(SMALL, subjects=9))
    np.testing.assert_array_equal(once.recording.signal, again.recording.signal)
    other = synthetic_recording(rows[5], replace(SMALL, seed=1))
    assert not np.array_equal(once.recording.signal, other.recording.signal)


def test_trials_look_like_release_3s():
    rows = synthetic_rows(SMALL, ["contrastChangeDetection"])
    times = np.concatenate([_trials(row)["response_time_s"] for row in rows])
    answered = times[np.isfinite(times)]
    assert 0.9 < len(answered) / len(times) < 0.99  # release 3's mean and deviation: 1.577 s, 0.409 s
    assert answered.mean() == pytest.approx(1.577, abs=0.06) and answered.std() == pytest.approx(0.409, abs=0.06)


def test_a_strength_is_a_correlation_and_leaves_the_signal_alone():
    for strength in (0.0, 0.6, 1.0):
        settings = replace(SMALL, subjects=300, externalizing_strength=strength, seconds=4.0)
        people = [synthetic_recording(row, settings) for row in synthetic_rows(settings, ["RestingState"])[:300]]
        theta = [_power(person.recording.signal[0], 5.5, 6.5) for person in people]
        factor = [person.participant["externalizing"] for person in people]
        found = np.corrcoef(np.log(theta), factor)[0, 1]
        assert found == pytest.approx(strength, abs=0.12)
    signals = [
        synthetic_recording(synthetic_rows(SMALL)[0], replace(SMALL, externalizing_strength=s)).recording.signal
        for s in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(*signals)


@pytest.mark.parametrize(("purpose", "fractions"), [("challenge1", (0.7, 0.15, 0.15)), ("challenge2", (0.5, 0.1, 0.4))])
def test_a_ridge_finds_what_is_planted_and_nothing_else(tmp_path, purpose, fractions):
    scores = {}
    for strength in (0.95, 0.0):
        settings = replace(SMALL, response_time_strength=strength, externalizing_strength=strength)
        write_synthetic_hbn(tmp_path / str(strength), purpose, settings)
        data = WindowData(tmp_path / str(strength), fractions=fractions)
        target, subjects = data.test_dataset.column("target").astype(float), data.test_dataset.subjects
        found = ridge_on_crops(data, "target")  # the rival that 22, 23, 31 and 32 score
        low, high = nrmse_interval(target, found, subjects)
        constant = nrmse(target, np.full(len(target), data.target_scale("target")[0]))
        scores[strength] = nrmse(target, found), low, high, constant
    print(purpose, scores)
    (there, _, highest, mean), (absent, lowest, _, same) = scores[0.95], scores[0.0]
    assert there < 0.85 < 0.97 < absent
    # over subjects: what is planted is told from the mean of the training side, what is not planted is not
    assert highest < mean and lowest < same


def test_columns_for_probes_are_there(tmp_path):
    data = WindowShards(write_synthetic_hbn(tmp_path, "pretrain", replace(SMALL, subjects=2)), columns=())
    assert set(data.column("task")) == {"RestingState", "contrastChangeDetection"}
    assert {"left_target", "right_target"} <= set(data.column("event")) and np.isfinite(data.column("age")).all()
    assert (data.n_times, len(set(data.subjects)), data.fact("data")) == (200, 2, STAND_IN)


def test_challenge_windows_are_their_contract():
    row = synthetic_rows(SMALL, ["contrastChangeDetection"])[0]
    made, trials = synthetic_recording(row, SMALL), _trials(row)
    windows, columns = cut(made, HBNWindows.challenge1())
    assert windows.shape[1:] == (12, 200) and len(windows) == np.isfinite(trials["response_time_s"]).sum()
    start = int(round(columns["stimulus_s"][2] * 100)) + 50  # 0.5 s after the stimulus
    np.testing.assert_array_equal(windows[2], made.recording.signal[:, start : start + 200])
    windows, columns = cut(made, HBNWindows.challenge2())
    assert windows.shape[1:] == (12, 400) and np.allclose(np.diff(columns["start_s"]), 2.0)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="strength"):
        SyntheticHBNSettings(response_time_strength=1.5)
    with pytest.raises(ValueError, match="Task 'sleep' is unknown"):
        SyntheticHBNSettings(tasks=("sleep",))


def _trials(row):
    made = synthetic_recording(row, SMALL)
    return contrast_trials(made.recording.onsets_s, made.recording.labels, made.feedback)


def _power(signal, low, high):
    freqs = np.fft.rfftfreq(len(signal), 0.01)
    return (np.abs(np.fft.rfft(signal)) ** 2)[(freqs >= low) & (freqs <= high)].sum()
