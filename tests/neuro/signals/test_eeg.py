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
from nbkit.neuro.signals.recordings.recording import Recording
from nbkit.runtime.items.work import Item


def test_eegbci_windows_are_the_recording_cut(eegbci_folder):
    row = eeg.recordings("eegbci", subjects=[1], runs=[4])[0]
    assert row["key"] == "sub-001_run-04"
    arrays = eeg.make_windows(row, sfreq=100.0, window_s=5.0, stride_s=2.5)
    raw = mne.io.read_raw_edf(eegbci.cached_path(1, 4), preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    whole = raw.resample(100.0, verbose="error").get_data() * 1e6
    levels = cumulative_frequency_levels(whole, 100.0)
    assert arrays["signal"].shape == (49, 64, 500) and arrays["cumulative_bands"].shape == (49, 5, 64, 500)
    for window in (0, 7, 48):
        cut = slice(250 * window, 250 * window + 500)
        np.testing.assert_allclose(arrays["signal"][window], whole[:, cut], atol=1e-3)
        np.testing.assert_allclose(arrays["cumulative_bands"][window], levels[..., cut], atol=1e-3)
    assert list(arrays["ch_names"]) == raw.ch_names and "FC5" in raw.ch_names and "Cz" in raw.ch_names
    assert 10 < arrays["signal"].std() < 200  # uV, not V
    assert arrays["bands"][-1].tolist() == [30.0, 49.0] and float(arrays["sfreq"]) == 100.0
    assert str(arrays["subject"]) == "1" and str(arrays["run"]) == "4" and str(arrays["data"]) == "real"


def test_eegbci_labels_are_those_of_the_annotations(eegbci_folder):
    arrays = eeg.make_windows(eeg.recordings("eegbci", runs=[3])[0], window_s=1.0, stride_s=1.0)
    raw = mne.io.read_raw_edf(eegbci.cached_path(1, 3), verbose="error")
    for note in raw.annotations:
        inside = int(np.ceil(note["onset"])) + 1  # the second whole second of an event lies wholly in it
        if inside < len(arrays["label"]):
            assert arrays["label"][inside] == note["description"]
    assert set(arrays["label"]) == {"T0", "T1", "T2"}


def test_bids_recordings_are_listed_and_cut(shared_data):
    root = shared_data / "eeg_cueing_muse"
    if not root.is_dir():
        pytest.skip("the BIDS recordings (../shared/data/eeg_cueing_muse) are not here")
    rows = eeg.recordings("bids", str(root), subjects=["106"])
    assert [row["key"] for row in rows] == ["sub-106_ses-1_task-cueing", "sub-106_ses-2_task-cueing"]
    arrays = eeg.make_windows(rows[0], window_s=2.0, stride_s=2.0)
    assert arrays["signal"].shape[1:] == (4, 200) and str(arrays["subject"]) == "106"
    assert any("cue" in label for label in arrays["label"])
    with pytest.raises(FileNotFoundError, match="sub-106"):
        eeg.recordings("bids", str(root), subjects=["9999"])


def test_edf_folders_are_read_by_their_names(eegbci_folder):
    folder = eegbci.cached_path(1, 3).parent
    rows = eeg.recordings("edf", str(folder), runs=["3", 12])
    assert [(row["subject"], row["run"], row["key"]) for row in rows] == [("1", "3", "S001R03"), ("1", "12", "S001R12")]
    assert eeg.make_windows(rows[0])["signal"].shape == (25, 64, 500)


def test_the_stand_in_goes_the_same_way_and_says_so():
    arrays = eeg.make_windows(eeg.recordings("synthetic")[0], sfreq=100.0, window_s=2.0, stride_s=2.0)
    assert arrays["signal"].shape == (62, 64, 200) and "stand-in" in str(arrays["data"])
    assert all(not array.dtype.hasobject for array in arrays.values())  # loads without pickle


@pytest.mark.parametrize(
    "kind", [dict, lambda row: Item(row, SimpleNamespace(ledger=None))], ids=["a dict", "a session's item"]
)
def test_a_manifest_row_may_be_any_mapping(kind):
    row = {"key": "k", "source": "synthetic", "subject": "2", "run": "1"}
    assert str(eeg.make_windows(kind(row), window_s=2.0)["subject"]) == "2"
    for faulty in ({**row, "source": ""}, {name: row[name] for name in row if name != "source"}):
        for call in (eeg.make_windows, eeg.load_recording):
            with pytest.raises(ValueError, match="Unknown source=''; it may be eegbci, bids"):
                call(kind(faulty))


def test_no_network_is_found_out_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(tmp_path))
    monkeypatch.setattr(eegbci, "_URL", "http://127.0.0.1:9/")  # the discard port: refused at once
    available, reason = eeg.eegbci_available(1, [3, 4])
    assert not available and "runs 3, 4 are not in" in reason and str(tmp_path) in reason
    with pytest.raises(FileNotFoundError, match="MNE_DATASETS_EEGBCI_PATH"):
        eeg.make_windows(eeg.recordings("eegbci", runs=[3])[0])


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


def test_events_of_a_cropped_recording_count_from_its_first_sample():
    info = mne.create_info(["Cz"], 100.0, "eeg")
    for date in (None, 1_000_000_000):
        raw = mne.io.RawArray(np.zeros((1, 2000)), info, verbose="error")
        raw.set_meas_date(date)
        raw.set_annotations(mne.Annotations([12.0], [1.0], ["T1"], orig_time=raw.info["meas_date"]))
        raw.crop(tmin=10.0)
        assert Recording.from_raw(raw).onsets_s == pytest.approx((2.0,))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: eeg.recordings("egbci"), ValueError, "eegbci, bids, edf, synthetic"),
        (lambda: eeg.recordings("eegbci", runs=[15]), ValueError, "no run 15; there are runs 1 to 14"),
        (lambda: eeg.recordings("eegbci", subjects=["x"]), ValueError, "no subject 'x'"),
        (lambda: eeg.recordings("bids"), FileNotFoundError, "PATH='' is not a folder"),
        (
            lambda: eeg.make_windows({"source": "edf", "path": "gone.edf"}),
            FileNotFoundError,
            "gone.edf does not exist any more",
        ),
    ],
)
def test_mistakes_are_answered_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_recording_without_eeg_is_refused(tmp_path):
    raw = mne.io.RawArray(np.zeros((2, 500)), mne.create_info(2, 100.0, ["stim", "ecg"]), verbose="error")
    with pytest.raises(ValueError, match="holds no EEG channel, only 1 ecg, 1 stim"):
        Recording.from_raw(raw, name="x.fif")


def test_a_made_up_hbn_goes_the_same_way_into_shards(tmp_path):
    from nbkit.neuro.signals.windows.shards import WindowShards

    rows = eeg.recordings("synthetic_hbn", "smoke", subjects=[3])
    assert [row["key"] for row in rows] == [
        "sub-SYN0003_task-RestingState", "sub-SYN0003_task-contrastChangeDetection_run-1"
    ]  # fmt: skip
    settings = eeg.window_settings("synthetic_hbn", 100.0)
    assert settings == {"sfreq": 100.0, "window_s": 2.0, "stride_s": 1.0, "dtype": "float16"}
    assert eeg.window_settings("eegbci", 100.0, stride_s=1.0)["window_s"] == 5.0
    made = [eeg.make_windows(row, tmp_path, **settings) for row in rows]
    assert set(made[0]) == {"signal", "pretrain"} and set(made[1]) == {"signal", "pretrain", "challenge1", "challenge2"}
    windows = WindowShards(tmp_path, columns=(), purpose="pretrain")
    np.testing.assert_allclose(windows[0]["window"], eeg.load_recording(rows[0]).signal[:, :200], rtol=1 / 2048)
    with pytest.raises(ValueError, match="'float16' for eegbci: its windows are kept as float32"):
        eeg.window_settings("eegbci", 100.0, dtype="float16")
    with pytest.raises(ValueError, match="folder"):
        eeg.make_windows(rows[0])
    with pytest.raises(ValueError, match="free or smoke"):
        eeg.recordings("synthetic_hbn", "big")
