"""The cueing recordings: windows where the targets are, and the honest baseline on them."""

from __future__ import annotations

import csv

import mne
import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from nbkit.neuro.challenge.metrics import nrmse, nrmse_interval
from nbkit.neuro.signals.recordings.cueing import CH_NAMES, CueingWindows, write_cueing
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.training.power_ridge import PowerRidge, log_band_powers


@pytest.fixture(scope="module")
def root(shared_data):
    folder = shared_data / "eeg_cueing_muse"
    if not folder.is_dir():
        pytest.skip("the cueing recordings (../shared/data/eeg_cueing_muse) are not here")
    return folder


def test_windows_lie_around_their_targets(root, tmp_path):
    write_cueing(root, tmp_path, subjects=["106"])
    data = WindowShards(tmp_path)
    assert data.ch_names == CH_NAMES and (data.n_times, data.sfreq) == (200, 100.0) and set(data.subjects) == {"106"}
    file = root / "sub-106" / "ses-1" / "eeg" / "sub-106_ses-1_task-cueing_eeg.edf"
    with open(str(file).replace("_eeg.edf", "_events.tsv"), newline="") as table:
        first = next(row for row in csv.DictReader(table, delimiter="\t") if row["trial_type"].startswith("target"))
    assert data[0]["target"] == float(first["rt"]) == 0.5968
    raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
    raw.filter(0.5, 45.0, verbose="error")
    times = np.arange(200) / 100 + float(first["onset"]) - 1.0
    truth = np.array([np.interp(times, raw.times, channel) for channel in raw.get_data(picks=list(CH_NAMES)) * 1e6])
    for mine, its in zip(data[0]["window"].numpy(), truth, strict=True):
        assert np.corrcoef(mine, its)[0, 1] > 0.95  # interpolation and half a sample's shift apart


def test_all_sessions_and_targets_are_there(root, tmp_path):
    write_cueing(root, tmp_path, CueingWindows.before())
    data = WindowShards(tmp_path)
    assert len(data) == 1940 and len(set(data.subjects)) == 20 and len(data.paths) == 40
    times, valid = data.column("target"), data.column("valid") == 1
    assert np.median(times[valid]) < np.median(times[~valid])  # Posner's effect
    ridge, constant, powers = np.empty(len(data)), np.empty(len(data)), log_band_powers(data.stack(), data.sfreq)
    for train, test in GroupKFold(5).split(powers, times, data.subjects):
        ridge[test] = PowerRidge().fit(powers[train], times[train], data.subjects[train]).predict(powers[test])
        constant[test] = times[train].mean()
    # band powers before the target tell nothing of the response time across people: no claim is made for more
    assert nrmse(times, constant) == pytest.approx(1.015, abs=0.003)
    assert nrmse(times, ridge) == pytest.approx(nrmse(times, constant), abs=0.02)
    low, high = nrmse_interval(times, ridge, data.subjects)
    assert low < nrmse(times, ridge) < high


def test_windows_that_would_see_the_next_cue_are_refused(root, tmp_path):
    with pytest.raises(ValueError, match="at the latest"):
        CueingWindows(0.0, 2.0)
    with pytest.raises(FileNotFoundError, match="40 sessions are there"):
        write_cueing(root, tmp_path, subjects=["1"])
