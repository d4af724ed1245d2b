"""Recordings to windows, on real recordings of three kinds and on the stand-in."""

from __future__ import annotations

import time
from types import SimpleNamespace

import mne
import numpy as np
import pytest

from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.bands import cumulative_frequency_levels
from nbkit.neuro.signals.recordings import eegbci
from nbkit.neuro.signals.windows.band_levels import BandLevels
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.runtime.items.work import Item


def cut_of(row, folder, source, *args, **settings):
    """Return the windows of a row, as training reads them."""
    eeg.make_windows(row, folder, **eeg.window_settings(source, 100.0, *args, **settings))
    return WindowShards(folder, columns=())


def test_eegbci_windows_are_the_recording_cleaned_and_cut(eegbci_folder, tmp_path):
    row = eeg.recordings("eegbci", subjects=[1], runs=[4])[0]
    assert row["key"] == "sub-001_run-04"
    made = cut_of(row, tmp_path, "eegbci", 5.0, 2.5)
    raw = mne.io.read_raw_edf(eegbci.cached_path(1, 4), preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    raw._data -= raw._data.mean(axis=1, keepdims=True)
    whole = raw.filter(0.5, None, pad="symmetric", verbose="error").resample(100.0, verbose="error").get_data() * 1e6
    order = [raw.ch_names.index(name) for name in made.ch_names]
    assert (len(made), made.n_chans, made.n_times) == (49, 64, 500) and sorted(order) == list(range(64))
    for window in (0, 7, 48):
        begin = 250 * window
        truth = whole[order, begin : begin + 500]
        np.testing.assert_allclose(made[window]["window"], truth, rtol=1 / 1024, atol=1e-3)
    levels = BandLevels(made)
    truth = cumulative_frequency_levels(whole[order], 100.0)
    np.testing.assert_allclose(levels[7], truth[..., 1750:2250], rtol=1e-2, atol=0.1)  # of a signal kept as float16
    assert 10 < made.stack().std() < 200  # uV, not V
    assert levels.bands[-1] == (30.0, 49.0) and made.sfreq == 100.0
    assert made.subjects[0] == "1" and made.fact("run") == "4" and made.fact("data") == "real"


def test_eegbci_labels_are_those_of_the_annotations(eegbci_folder, tmp_path):
    labels = cut_of(eeg.recordings("eegbci", runs=[3])[0], tmp_path, "eegbci", 1.0, 1.0).column("label")
    raw = mne.io.read_raw_edf(eegbci.cached_path(1, 3), verbose="error")
    for note in raw.annotations:
        inside = int(np.ceil(note["onset"])) + 1  # the second whole second of an event lies wholly in it
        if inside < len(labels):
            assert labels[inside] == note["description"]
    assert set(labels) == {"T0", "T1", "T2"}


def test_bids_recordings_are_listed_and_cut(shared_data, tmp_path):
    root = shared_data / "eeg_cueing_muse"
    if not root.is_dir():
        pytest.skip("the BIDS recordings (../shared/data/eeg_cueing_muse) are not here")
    rows = eeg.recordings("bids", str(root), subjects=["106"])
    assert [row["key"] for row in rows] == ["sub-106_ses-1_task-cueing", "sub-106_ses-2_task-cueing"]
    made = cut_of(rows[0], tmp_path, "bids", 2.0, 2.0)
    assert (made.n_chans, made.n_times) == (4, 200) and made.subjects[0] == "106"
    assert any("cue" in label for label in made.column("label"))
    with pytest.raises(FileNotFoundError, match="sub-106"):
        eeg.recordings("bids", str(root), subjects=["9999"])


@pytest.mark.parametrize("source", ["edf", "folder"])
def test_folders_of_files_are_read_by_their_names(eegbci_folder, tmp_path, source):
    folder = eegbci.cached_path(1, 3).parent
    rows = eeg.recordings(source, str(folder), runs=["3", 12])
    found = [(row["subject"], row["run"], row["key"]) for row in rows]
    assert found == [("001", "3", "S001R03"), ("001", "12", "S001R12")]
    made = cut_of(rows[0], tmp_path, "folder")
    assert (len(made), made.n_chans, made.n_times) == (25, 64, 500)


def test_the_stand_in_goes_the_same_way_and_says_so(tmp_path):
    made = cut_of(eeg.recordings("synthetic")[0], tmp_path, "synthetic", 2.0, 2.0)
    assert (len(made), made.n_chans, made.n_times) == (62, 64, 200) and "stand-in" in made.fact("data")


@pytest.mark.parametrize(
    "kind", [dict, lambda row: Item(row, SimpleNamespace(ledger=None))], ids=["a dict", "a session's item"]
)
def test_a_manifest_row_may_be_any_mapping(kind, tmp_path):
    row = {"key": "k", "source": "synthetic", "subject": "2", "run": "1"}
    assert cut_of(kind(row), tmp_path, "synthetic", 2.0).subjects[0] == "2"
    for faulty in ({**row, "source": ""}, {name: row[name] for name in row if name != "source"}):
        for call in (lambda item: eeg.make_windows(item, tmp_path), eeg.load_recording):
            with pytest.raises(ValueError, match="Unknown source=''; it may be folder, bids"):
                call(kind(faulty))


def test_no_network_is_found_out_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(tmp_path))
    monkeypatch.setattr(eegbci, "_URL", "http://127.0.0.1:9/")  # the discard port: refused at once
    available, reason = eeg.eegbci_available(1, [3, 4])
    assert not available and "runs 3, 4 are not in" in reason and str(tmp_path) in reason
    with pytest.raises(FileNotFoundError, match="MNE_DATASETS_EEGBCI_PATH"):
        eeg.make_windows(eeg.recordings("eegbci", runs=[3])[0], tmp_path)


def test_a_stand_in_is_listed_only_where_asked_for_and_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(tmp_path))
    monkeypatch.setattr(eegbci, "_URL", "http://127.0.0.1:9/")
    assert eeg.recordings("eegbci", runs=[3, 4])[0]["source"] == "eegbci" and not capsys.readouterr().out
    rows = eeg.recordings("eegbci", runs=[3, 4], stand_in=True)
    assert [row["source"] for row in rows] == ["synthetic", "synthetic"] and [row["run"] for row in rows] == ["3", "4"]
    said = capsys.readouterr().out.strip()
    assert "SYNTHETIC" in said and "\n" not in said


def test_a_network_that_never_answers_does_not_hold_anybody(tmp_path, monkeypatch):
    import socket

    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(tmp_path))
    monkeypatch.setattr(eegbci, "_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
    began = time.monotonic()
    available, reason = eeg.eegbci_available(1, [3], patience_s=0.5)
    silent.close()
    assert not available and ("no answer within" in reason or "timed out" in reason)
    assert time.monotonic() - began < 60  # it would be for ever


def test_cached_runs_need_no_network(eegbci_folder, monkeypatch):
    monkeypatch.setattr(eegbci, "_network_fault", lambda *a: pytest.fail("the network was asked"))
    available, reason = eeg.eegbci_available(1, [3, 12])
    assert available and "on disk" in reason


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: eeg.recordings("egbci"), ValueError, "folder, bids, eegbci, edf, synthetic"),
        (lambda: eeg.recordings("eegbci", runs=[15]), ValueError, "no run 15; there are runs 1 to 14"),
        (lambda: eeg.recordings("eegbci", subjects=["x"]), ValueError, "no subject 'x'"),
        (lambda: eeg.recordings("bids"), FileNotFoundError, "PATH is not set"),
        (
            lambda: eeg.load_recording({"source": "edf", "path": "gone.edf"}),
            FileNotFoundError,
            "gone.edf does not exist any more",
        ),
    ],
)
def test_mistakes_are_answered_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_made_up_hbn_goes_the_same_way_into_shards(tmp_path):
    rows = eeg.recordings("synthetic_hbn", "smoke", subjects=[3])
    assert [row["key"] for row in rows] == [
        "sub-SYN0003_task-RestingState", "sub-SYN0003_task-contrastChangeDetection_run-1"
    ]  # fmt: skip
    settings = eeg.window_settings("synthetic_hbn", 100.0)
    assert settings == {"sfreq": 100.0, "window_s": 2.0, "stride_s": 1.0, "dtype": "float16"}
    made = [eeg.make_windows(row, tmp_path, **settings) for row in rows]
    assert set(made[0]) == {"signal", "pretrain", "challenge2"}
    assert set(made[1]) == {"signal", "pretrain", "challenge1", "challenge2"}
    windows = WindowShards(tmp_path, columns=(), purpose="pretrain")
    np.testing.assert_allclose(windows[0]["window"], eeg.load_recording(rows[0]).signal[:, :200], rtol=1 / 2048)
    with pytest.raises(ValueError, match="'int8': windows are kept as float32 or float16"):
        eeg.window_settings("eegbci", 100.0, dtype="int8")
    with pytest.raises(ValueError, match="free or smoke"):
        eeg.recordings("synthetic_hbn", "big")
