"""The awkward files of ../shared/cases, each with what must come of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.windows.shards import WindowShards
from tests import ROOT

CASES = ROOT.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the awkward files (../shared/cases) are not here")


def windows_of(case: str, folder: Path, source: str = "folder", window_s: float = 5.0, **more) -> WindowShards:
    """Return the windows of all recordings of a case."""
    settings = eeg.window_settings(source, 100.0, window_s, window_s)
    for row in eeg.recordings(source, str(CASES / case), where=folder, **more):
        eeg.make_windows(row, folder / "made", **settings)
    return WindowShards(folder / "made", columns=())


def test_a_gap_is_crossed_by_no_window(tmp_path):
    made = windows_of("01-edfd-gap", tmp_path)
    assert made.column("start_s").tolist() == [0.0, 5.0, 10.0, 15.0, 120.0, 125.0, 130.0, 135.0]
    assert made.column("label").tolist() == ["", "", "", "left", "", "", "right", ""]


def test_a_night_keeps_its_eeg_channels_and_names_the_others(tmp_path):
    rows = eeg.recordings("folder", str(CASES / "02-edf-nonEEG-channels"))
    assert [Path(row["path"]).name for row in rows] == ["night1-PSG.edf"]  # the hypnogram sorts first
    recording = eeg.load_recording(rows[0])
    assert recording.ch_names == ("Fpz-Cz", "Pz-Oz") and recording.signal.std() < 50
    left = set(recording.facts.left_out)
    assert left == {"EOG horizontal", "Resp oro-nasal", "EMG submental", "Temp rectal", "Event marker"}
    assert "night1-Hypnogram.edf were joined" in " ".join(recording.facts.said)
    assert {label for label in recording.labels if label.startswith("Sleep stage")}


@pytest.mark.parametrize("file", ["uV", "mV", "V", "UV", "microV", "blank", "nV"])
def test_a_unit_is_read_or_refused_in_words(file):
    path = CASES / "04-edf-units" / f"{file}.edf"
    try:
        assert 15 < read_recording(path).signal.std() < 25
    except RecordingError as error:
        assert path.name in str(error) and ("UNIT" in str(error) or "cannot be read" in str(error))
        assert file in ("blank", "nV")


def test_a_blank_unit_is_what_the_user_says():
    assert 15 < read_recording(CASES / "04-edf-units" / "blank.edf", unit="uV").signal.std() < 25
    with pytest.raises(RecordingError, match=r"the median is 1\.79e\+04 uV.*set UNIT"):
        read_recording(CASES / "04-edf-units" / "blank.edf", unit="mV")


def test_names_of_any_script_and_case_have_keys_of_their_own(tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(CASES / "05-edf-file-names", folder)
    with pytest.raises(RecordingError, match="recordings.tsv"):  # whose they are is not said
        eeg.recordings("folder", str(folder))
    table = folder / "recordings.tsv"
    lines = table.read_text("utf-8").splitlines()
    assert len(lines) == 5 and "静息.edf" in table.read_text("utf-8")
    filled = [lines[0], *(line.replace("\t\t", f"\tS{n}\t") for n, line in enumerate(lines[1:]))]
    table.write_text("\n".join(filled), "utf-8")
    rows = eeg.recordings("folder", str(folder))
    assert len(rows) == 4 == len({row["key"].casefold() for row in rows}) and all(r["key"].isascii() for r in rows)
    assert {row["subject"] for row in rows} == {"S0", "S1", "S2", "S3"}


def test_other_rates_labels_and_formats_are_read():
    mixed = read_recording(CASES / "07-edf-mixed-rates" / "mixed.edf")
    assert mixed.ch_names == ("Fz", "C3", "C4") and set(mixed.facts.left_out) == {"SpO2"} and mixed.sfreq == 100
    assert len(read_recording(CASES / "08-edf-duplicate-labels" / "dup.edf").ch_names) == 4
    bdf = read_recording(CASES / "09-bdf" / "plus.bdf")
    assert bdf.ch_names == ("A1", "A2", "A3") and bdf.labels == ("left",) and set(bdf.facts.left_out) == {"Status"}
    assert read_recording(CASES / "10-edf-odd-rate" / "odd.edf").facts.sfreq == pytest.approx(127.987, abs=0.001)


def test_derivatives_are_left_out_and_counted(capsys):
    rows = eeg.recordings("bids", str(CASES / "11-bids-derivatives"))
    assert [row["key"] for row in rows] == ["sub-01_task-rest", "sub-02_task-rest"]
    said = capsys.readouterr().out
    assert "2 files in derivatives/" in said and "1 files in sourcedata/" in said


def test_the_table_of_channels_counts():
    folder = CASES / "12-bids-units-types"
    for subject, left in (("01", set()), ("02", {"Temp", "GSR1"})):
        made = read_recording(folder / f"sub-{subject}/eeg/sub-{subject}_task-rest_eeg.edf", bids=True)
        assert 15 < made.signal.std() < 25 and set(made.facts.left_out) == left and "channels.tsv" in made.facts.unit


def test_tables_of_events_with_holes_are_read():
    folder = CASES / "13-bids-events-na"
    found = [read_recording(folder / f"sub-0{n}/eeg/sub-0{n}_task-rest_eeg.edf", bids=True) for n in (1, 2, 3)]
    assert [made.labels for made in found] == [("left", "left"), ("1", "2"), ()]
    assert "2 rows without an onset or a name" in " ".join(found[0].facts.said)


def test_missing_tables_and_bad_channels_are_said():
    folder = CASES / "14-bids-missing-sidecars"
    found = [read_recording(folder / f"sub-0{n}/eeg/sub-0{n}_task-rest_eeg.edf", bids=True) for n in (1, 2, 3)]
    assert [len(made.ch_names) for made in found] == [4, 4, 3]
    assert "There is no sub-01_task-rest_channels.tsv" in " ".join(found[0].facts.said)
    assert "CZZ" in " ".join(found[1].facts.said)
    assert dict(found[2].facts.bads) == {"C3": "marked as bad"} and "C3" not in found[2].ch_names


def test_entities_make_different_keys():
    rows = eeg.recordings("bids", str(CASES / "15-bids-entities"))
    assert len({row["key"] for row in rows}) == 4 and {row["subject"] for row in rows} == {"01"}


def test_boundaries_and_bad_spans_are_crossed_by_nothing_and_are_no_labels(tmp_path):
    folder = CASES / "17-eeglab" / "sub-01" / "eeg"
    made = read_recording(folder / "sub-01_task-rest_eeg.set", bids=True)
    assert [(s.start_s, s.stop - s.start) for s in made.stretches] == [(0.0, 700), (7.0, 1300), (23.0, 700)]
    assert made.labels == ("left",)
    epochs = read_recording(CASES / "17-eeglab/sub-02/eeg/sub-02_task-rest_eeg.set", bids=True)
    assert len(epochs.stretches) == 3 and epochs.labels == ("1", "1", "2")
    windows = windows_of("17-eeglab", tmp_path, "bids", 1.0, subjects=["02"])
    assert windows.column("label").tolist() == [1.0, 1.0, 2.0]


def test_people_in_folders_are_told_apart_or_asked_for(tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(CASES / "18-subject-of-folder", folder)
    people = {
        name: {row["run"]: row["subject"] for row in eeg.recordings("folder", str(folder / name))}
        for name in ("flat", "chb")
    }
    assert sorted(people["flat"].values()) == ["P01", "P02", "P02"]
    assert sorted(people["chb"].values()) == ["chb01", "chb02"]
    assert {row["subject"] for row in eeg.recordings("folder", str(folder / "lab"))} == {"anna", "bert"}
    with pytest.raises(RecordingError, match="Fill in the column subject"):
        eeg.recordings("folder", str(folder))  # three layouts at once: nobody is one person by accident
    assert len((folder / "recordings.tsv").read_text("utf-8").splitlines()) == 8


def test_contents_that_were_not_fetched_are_named(tmp_path):
    row = eeg.recordings("bids", str(CASES / "61-annex"))[0]
    with pytest.raises(FileNotFoundError, match="datalad get sub-01_task-rest_eeg.edf"):
        eeg.load_recording(row)
    link = tmp_path / "sub-01_task-rest_eeg.edf"
    link.symlink_to("../.git/annex/objects/x")
    with pytest.raises(FileNotFoundError, match="was not fetched"):
        read_recording(link)


def test_parts_of_brainvision_files_that_are_missing_are_named():
    folder = CASES / "62-brainvision"

    def read(number: int):
        name = f"sub-0{number}"
        return read_recording(folder / name / "eeg" / f"{name}_task-rest_eeg.vhdr", bids=True)

    whole = read(1)
    assert [s.start_s for s in whole.stretches] == [0.0, 10.0] and whole.labels == ("Stimulus/S  1",)
    with pytest.raises(RecordingError, match="sub-02_task-rest_eeg.eeg"):
        read(2)
    unmarked = read(3)
    assert "vmrk" in " ".join(unmarked.facts.said) and np.isfinite(unmarked.signal).all()
    with pytest.raises(RecordingError, match="subject4 orig.eeg"):
        read(4)
