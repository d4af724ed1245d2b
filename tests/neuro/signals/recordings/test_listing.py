"""Listing folders: who, which files, and keys that never meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.recordings.identity import by_layout
from nbkit.neuro.signals.recordings.listing import unique_keys
from nbkit.runtime.names import check_name
from tests.neuro.signals.intake.edf_files import brain_waves, write_edf

SIGNAL = brain_waves(2, 3, 100)


def touch(folder, *names):
    for name in names:
        write_edf(folder / name, SIGNAL, ["C3", "C4"], ["uV", "uV"], 100)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)
                .filter(lambda name: name not in (".", "..")), min_size=1, max_size=8, unique=True))  # fmt: skip
def test_keys_differ_wherever_names_do_and_may_be_file_names(names):
    keys = unique_keys([f"{name}.edf" for name in names])
    assert len({key.casefold() for key in keys.values()}) == len(names)
    for key in keys.values():
        assert check_name(key) == key


@pytest.mark.parametrize(
    "files, people",
    [
        (["anna/ses1/rest.edf", "bert/ses1/rest.edf"], ["anna", "bert"]),
        (["anna/a.edf", "bert/day2/b.edf"], ["anna", "bert"]),
        (["P01_rest.edf", "P02_rest.edf", "P02_task.edf"], ["P01", "P02", "P02"]),
        (["Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf"], ["Subject00", "Subject00", "Subject01"]),
        (["S001R03.edf", "S001R04.edf", "S002R03.edf"], ["001", "001", "002"]),
        (["sub-01_task-a_eeg.edf", "sub-02_task-a_eeg.edf"], ["01", "02"]),
        (["chb01/chb01_03.edf", "chb02/chb02_16.edf"], ["chb01", "chb02"]),
        (["x.edf"], ["x"]),
        (["a.edf", "b.edf"], None),  # two people, or two runs of one
        (["night1_rest.edf", "night2_rest.edf"], None),
        (["session1/a.edf", "session2/b.edf"], None),
        (["rest/anna.edf", "task/anna.edf"], None),
        (["01_tcp_ar/aaab/s001/a.edf", "02_tcp_le/aaac/s001/b.edf"], None),  # <montage>/<patient>/
        (["control/P1/a.edf", "patient/P2/a.edf"], None),
        (["SC4001E0-PSG.edf", "SC4002E0-PSG.edf"], None),  # two nights of one person
        (["P01_rest.edf", "S02_rest.edf"], None),
        (["S1/nback.edf", "S2/nback.edf"], ["S1", "S2"]),
        (["P03/R01.edf", "P03/R02.edf", "P04/R01.edf"], ["P03", "P03", "P04"]),
        (["ses-1/P01.edf", "ses-1/P02.edf", "ses-2/P01.edf"], None),  # ses-1 is nobody
        (["control/01.edf", "control/02.edf", "patient/01.edf"], None),
        (["train/a.edf", "test/b.edf"], None),
        (["before/anna.edf", "after/anna.edf"], None),
        (["lab1/P01.edf", "lab1/P02.edf", "lab2/P03.edf"], None),
        (["x/P01.edf", "x/P02.edf", "y/P03.edf"], None),
        (["wake/anna.edf", "drowsy/anna.edf"], None),
    ],
)
def test_nobody_is_one_person_by_accident(files, people):
    found = by_layout(files)
    assert (None if found is None else [found[file] for file in files]) == people


def test_a_pattern_or_a_table_tells_who(tmp_path):
    touch(tmp_path, "x_anna_1.edf", "x_anna_2.edf", "x_bert_1.edf")
    rows = eeg.recordings("folder", str(tmp_path), subject_from=r"x_([a-z]+)_")
    assert [row["subject"] for row in rows] == ["anna", "anna", "bert"]
    for pattern, words in ((r"x_(\d+)", "finds no subject in x_anna_1.edf"), (r"x_", "0 groups"), ("(", "no regular")):
        with pytest.raises(RecordingError, match=words):
            eeg.recordings("folder", str(tmp_path), subject_from=pattern)
    with pytest.raises(RecordingError, match=r"Fill in the column subject of .*recordings.tsv"):
        eeg.recordings("folder", str(tmp_path))
    table = tmp_path / "recordings.tsv"
    with pytest.raises(RecordingError, match="line 2: x_anna_1.edf has no subject"):
        eeg.recordings("folder", str(tmp_path))  # the template as it was written
    table.write_text("file\tsubject\tage\nx_anna_1.edf\tA\t30\nx_anna_2.edf\tA\t30\nx_bert_1.edf\tB\t41\n")
    rows = eeg.recordings("folder", str(tmp_path))
    assert [(row["subject"], row["age"]) for row in rows] == [("A", "30"), ("A", "30"), ("B", "41")]
    assert eeg.recordings("folder", str(tmp_path), subjects=["B"])[0]["key"] == "x_bert_1"
    table.write_text("file,subject\nx_anna_1.edf,A\n")
    with pytest.raises(RecordingError, match="needs file and subject, separated by tabs"):
        eeg.recordings("folder", str(tmp_path))


def test_hidden_files_derivatives_and_other_files_are_left_out(tmp_path, capsys):
    touch(tmp_path, "P1/rest.edf", "P2/rest.EDF", "P1/._rest.edf", ".cache/x.edf", "derivatives/P1/rest.edf")
    (tmp_path / "P1" / "notes.txt").write_text("hello")
    rows = eeg.recordings("folder", str(tmp_path))
    assert [row["key"] for row in rows] == ["P1_rest", "P2_rest"]
    assert "1 files in derivatives/, 2 hidden files" in capsys.readouterr().out


def test_a_folder_of_several_formats_is_one_source(tmp_path):
    import mne

    touch(tmp_path, "P1/rest.edf")
    raw = mne.io.read_raw_edf(tmp_path / "P1" / "rest.edf", preload=True, verbose="error")
    for folder, name in (("P2", "rest_raw.fif"), ("P3", "rest_raw.fif.gz")):
        (tmp_path / folder).mkdir()
        raw.save(tmp_path / folder / name, verbose="error")
    (tmp_path / "P4").mkdir()
    arrays = dict(signal=raw.get_data(), sfreq=100.0, ch_names=np.array(raw.ch_names), unit="V")
    np.savez(tmp_path / "P4" / "rest.npz", **arrays)
    rows = eeg.recordings("folder", str(tmp_path))
    assert [row["subject"] for row in rows] == ["P1", "P2", "P3", "P4"]
    for row in rows:
        assert eeg.load_recording(row).ch_names == ("C3", "C4")


def test_one_unreadable_file_keeps_nothing_from_the_others(tmp_path, capsys):
    touch(tmp_path, "P2/rest.edf")
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "rest.edf").write_bytes(b"not an EDF file")
    rows = eeg.recordings("folder", str(tmp_path))
    settings = eeg.window_settings("folder", 100.0, 1.0, 1.0)
    key, recording = eeg.first_readable(rows, settings)
    assert key == "P2_rest" and "P1_rest cannot be used" in capsys.readouterr().out
    with pytest.raises(RecordingError, match="rest.edf is not an EDF or BDF file"):
        eeg.make_windows(rows[0], tmp_path / "out", **settings)
    with pytest.raises(RecordingError, match="None of 1 recordings can be used"):
        eeg.first_readable(rows[:1], settings)


def test_mistakes_are_answered_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder here"):
        eeg.recordings("folder", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="holds no recording"):
        eeg.recordings("folder", str(tmp_path))
    touch(tmp_path, "P1/rest.edf")
    with pytest.raises(FileNotFoundError, match="TABLE='gone.tsv' is not a file"):
        eeg.recordings("folder", str(tmp_path), table="gone.tsv")
    with pytest.raises(FileNotFoundError, match="none of subjects X.*subjects: rest"):
        eeg.recordings("folder", str(tmp_path), subjects=["X"])
