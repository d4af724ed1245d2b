"""HBN from a BIDS folder in its own layout to shards, and from eegdash's."""

from __future__ import annotations

import functools
import json

import mne
import numpy as np
import pytest

from nbkit.neuro.signals.hbn import recordings as hbn
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, hbn_ch_names, synthetic_recording, synthetic_rows
from nbkit.neuro.signals.hbn.windows import HBNWindows, cut
from nbkit.neuro.signals.windows.shards import WindowShards

MADE = SyntheticHBNSettings(subjects=2, tasks=("RestingState", "contrastChangeDetection"), runs=1, trials=4, seconds=12)
# two of release 3's mini subjects, one of the nine excluded
SUBJECTS = {"NDARAA948VFH": "SYN0001", "NDARAD774HAZ": "SYN0002", "NDARBA381JGH": "SYN0001"}


@pytest.fixture
def bids(tmp_path):
    """Write a small release in HBN's layout, and give its root: 129 channels as BDF, events as HBN's tables are."""
    return write_release(tmp_path / "hbn" / "release3")


def write_release(root, number="R3", title="Healthy Brain Network (HBN) EEG - Release 3", sfreq=100.0, kind="bdf"):
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": title, "BIDSVersion": "1.9.0"}))
    people = ["participant_id\trelease_number\tsex\tage\tp_factor\tattention\tinternalizing\texternalizing"]
    for subject, made in SUBJECTS.items():
        factor = "n/a" if subject == "NDARAD774HAZ" else "-0.387"
        people.append(f"sub-{subject}\t{number}\tF\t7.9827\t-0.018\t-0.235\t0.034\t{factor}")
        folder = root / f"sub-{subject}" / "eeg"
        folder.mkdir(parents=True)
        for row in synthetic_rows(MADE):
            if row["subject"] != made:
                continue
            recording = synthetic_recording(row, MADE)
            name = row["key"].replace(made, subject)
            signal = recording.recording.signal
            if sfreq != MADE.sfreq:
                signal = mne.filter.resample(signal, up=sfreq, down=MADE.sfreq, verbose="error")
            raw = mne.io.RawArray(signal * 1e-6, mne.create_info(list(hbn_ch_names()), sfreq, "eeg"), verbose="error")
            mne.export.export_raw(folder / f"{name}_eeg.{kind}", raw, verbose="error", physical_range=(-500, 500))
            source = recording.recording
            lines = ["onset\tduration\tsample\tvalue\tevent_code\tfeedback"]
            for onset, label, feedback in zip(source.onsets_s, source.labels, recording.feedback, strict=True):
                lines.append(f"{onset:g}\tn/a\t{int(onset * 500)}\t{label}\t5\t{feedback}")
            (folder / f"{name}_events.tsv").write_text("\n".join(lines))
            (folder / f"{name}_eeg.json").write_text(json.dumps({"SamplingFrequency": sfreq, "EEGReference": "Cz"}))
            channels = ["name\ttype\tunits", *(f"{channel}\tEEG\tuV" for channel in hbn_ch_names())]
            (folder / f"{name}_channels.tsv").write_text("\n".join(channels))
    (root / "participants.tsv").write_text("\n".join(people))
    return root


@pytest.fixture
def truth():
    return synthetic_recording(synthetic_rows(MADE, ["contrastChangeDetection"])[0], MADE)


def test_rows_hold_what_is_known_and_leave_out_the_excluded(bids):
    rows = hbn.hbn_rows("hbn_bids", bids.parent)
    assert [row["key"] for row in rows] == [
        "sub-NDARAA948VFH_task-RestingState", "sub-NDARAA948VFH_task-contrastChangeDetection_run-1",
        "sub-NDARAD774HAZ_task-RestingState", "sub-NDARAD774HAZ_task-contrastChangeDetection_run-1",
    ]  # fmt: skip
    assert rows[1]["release"] == "R3" and rows[1]["externalizing"] == "-0.387" and rows[3]["externalizing"] == ""
    assert hbn.hbn_rows("hbn_bids", bids) == rows  # the release's root, or a folder of several
    assert len(hbn.hbn_rows("hbn_bids", bids, tasks=["restingState"], subjects=["sub-NDARAD774HAZ"])) == 1


def test_subjects_without_the_target_are_left_out_aloud(bids, capsys):
    rows = hbn.hbn_rows("hbn_bids", bids, target="externalizing")
    assert {row["subject"] for row in rows} == {"NDARAA948VFH"}
    assert "1 subjects have no externalizing" in capsys.readouterr().out


def test_a_recording_is_read_in_uv_with_its_trials(bids, truth):
    row = hbn.hbn_rows("hbn_bids", bids, tasks=["contrastChangeDetection"])[0]
    read = hbn.load_hbn(row)
    assert read.recording.ch_names == hbn_ch_names() and read.release == "R3" and read.recording.sfreq == 100.0
    np.testing.assert_allclose(read.recording.signal[:, :1000], truth.recording.signal[:, :1000], atol=1e-3)
    assert (np.abs(read.recording.signal[-1]) < 1e-3).all()  # Cz, flat
    assert read.recording.labels == truth.recording.labels and read.feedback == truth.feedback
    assert read.participant["age"] == 7.9827


def test_folder_to_shards_end_to_end(bids, truth, tmp_path):
    for row in hbn.hbn_rows("hbn_bids", bids):
        hbn.make_windows(row, tmp_path / "out")
    locked = WindowShards(tmp_path / "out", purpose="challenge1")
    windows, columns = cut(truth, HBNWindows.challenge1())
    mine = locked.subset(locked.subjects == "NDARAA948VFH")
    np.testing.assert_allclose(mine.column("target"), columns["target"], atol=1e-6)
    np.testing.assert_allclose(mine.stack(), windows, atol=1e-3)
    assert set(WindowShards(tmp_path / "out", purpose="challenge2").subjects) == {"NDARAA948VFH"}
    everything = WindowShards(tmp_path / "out", columns=(), purpose="pretrain")
    assert set(everything.column("task")) == {"RestingState", "contrastChangeDetection"}
    assert everything.n_chans == 129 and everything.fact("release") == "R3" and everything.fact("data") == "real"


def test_openneuros_500_hz_is_filtered_and_resampled(tmp_path, truth):
    root = write_release(tmp_path / "r", sfreq=500.0, kind="set")
    read = hbn.load_hbn(hbn.hbn_rows("hbn_bids", root, tasks=["contrastChangeDetection"])[0])
    assert read.recording.sfreq == 100.0
    middle = slice(300, 1000)  # both filters have settled
    alike = np.corrcoef(read.recording.signal[40, middle], truth.recording.signal[40, middle])[0, 1]
    assert alike > 0.97


def test_the_held_out_release_is_refused_by_path_title_table_and_row(bids, tmp_path):
    for place in (tmp_path / "ds005509", tmp_path / "EEG2025r5mini"):
        place.mkdir()
        with pytest.raises(ValueError, match="release 5"):
            hbn.hbn_rows("hbn_bids", place)
    with pytest.raises(ValueError, match="release 5"):
        hbn.hbn_rows("hbn", tmp_path, releases=["R1", "R5"])
    row = hbn.hbn_rows("hbn_bids", bids)[0]
    with pytest.raises(ValueError, match="release 5"):
        hbn.load_hbn({**row, "release": "R5"})
    titled = bids / "dataset_description.json"
    titled.write_text(titled.read_text().replace("Release 3", "Release 5"))
    with pytest.raises(ValueError, match="release 5"):
        hbn.hbn_rows("hbn_bids", bids)
    with pytest.raises(ValueError, match="release 5"):
        hbn.make_windows(row, tmp_path / "out")  # a row made before
    titled.unlink()
    table = bids / "participants.tsv"
    table.write_text(table.read_text().replace("\tR3\t", "\tR5\t"))
    with pytest.raises(ValueError, match="release 5"):
        hbn.hbn_rows("hbn_bids", bids)
    assert not (tmp_path / "out").exists()


def test_wrong_recordings_are_refused_by_name(bids, tmp_path):
    row = hbn.hbn_rows("hbn_bids", bids)[0]
    with pytest.raises(ValueError, match="NDARBA381JGH is one of the nine"):
        hbn.load_hbn({**row, "subject": "NDARBA381JGH"})
    noise = np.random.default_rng(0).normal(size=(3, 500)) * 2e-5
    raw = mne.io.RawArray(noise, mne.create_info(["E1", "E2", "Cz"], 100.0, "eeg"), verbose="error")
    file = tmp_path / "sub-X_task-RestingState_eeg.set"
    mne.export.export_raw(file, raw, verbose="error")
    with pytest.raises(ValueError, match=r"sub-X_task-RestingState_eeg.set has 3 channels without E3"):
        hbn.load_hbn({**row, "path": str(file)})
    with pytest.raises(FileNotFoundError, match="not there any more"):
        hbn.load_hbn({**row, "path": str(tmp_path / "gone_eeg.bdf")})
    with pytest.raises(FileNotFoundError, match="holds no recording"):
        hbn.hbn_rows("hbn_bids", bids, subjects=["NOBODY"])


def test_eegdash_gives_the_same_recordings(tmp_path, monkeypatch):
    eegdash = pytest.importorskip("eegdash")
    root = write_release(tmp_path / "cache" / "EEG2025r3mini")
    offline = functools.partial(eegdash.EEGChallengeDataset, download=False)  # reads what is in the cache
    monkeypatch.setattr(eegdash, "EEGChallengeDataset", offline)
    rows = hbn.hbn_rows("hbn", root.parent, releases=["R3"], tasks=["contrastChangeDetection"])
    assert [(row["subject"], row["run"], row["release"]) for row in rows] == [
        ("NDARAA948VFH", "1", "R3"), ("NDARAD774HAZ", "1", "R3")
    ]  # fmt: skip
    local = hbn.hbn_rows("hbn_bids", root.parent, tasks=["contrastChangeDetection"])
    ours, theirs = hbn.load_hbn(local[0]), hbn.load_hbn(rows[0])
    np.testing.assert_array_equal(ours.recording.signal, theirs.recording.signal)
    assert rows[0]["key"] == local[0]["key"] and rows[0]["externalizing"] == local[0]["externalizing"]
