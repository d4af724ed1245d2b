"""The guard for release 5, under every name that it goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.neuro.signals.hbn.release import (
    DATASETS,
    EXCLUDED_SUBJECTS,
    HELD_OUT,
    RELEASES,
    check_release,
    check_tasks,
    refuse_held_out,
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "R5", "r5", 5, "5", "R05", "ds005509", "EEG2025r5", "EEG2025r5mini", "R5_mini_L100_bdf", "R5_L100",
        "Healthy Brain Network (HBN) EEG - Release 5", "release-5", "cache/EEG2025r5mini/sub-X/eeg/x_eeg.bdf",
        Path("data", "ds005509", "sub-X"), Path("hbn", "R5"), Path("cmi_bids_R5"),
    ],
)  # fmt: skip
def test_release_5_is_refused_by_any_name(name):
    with pytest.raises(ValueError, match="release 5.*never opened"):
        refuse_held_out("R1", name)


@pytest.mark.parametrize(
    "name",
    ["R1", "R11", "ds005505", "ds005510", "EEG2025r1mini", "EEG2025r10", "R10_mini_L100_bdf", "NDARBM839WR5", "R50",
     "Release 3", "Release 15", "sub-SYN0005_task-X_run-5", "ds0055091", 1, None, "", Path("tmp", "r55")],
)  # fmt: skip
def test_others_pass(name):
    refuse_held_out(name)


def test_a_link_to_release_5_is_followed(tmp_path):
    (tmp_path / "ds005509").mkdir()
    (tmp_path / "harmless").symlink_to(tmp_path / "ds005509")
    with pytest.raises(ValueError, match="release 5"):
        refuse_held_out(tmp_path / "harmless")


def test_the_tables_are_eegdashs():
    const = pytest.importorskip("eegdash.const")
    assert DATASETS == const.RELEASE_TO_OPENNEURO_DATASET_MAP and DATASETS[HELD_OUT] == "ds005509"
    for release, dataset in DATASETS.items():
        for name in (release, dataset, f"EEG2025r{release[1:]}", f"EEG2025r{release[1:]}mini", f"{release}_L100_bdf"):
            if release == "R5":
                with pytest.raises(ValueError):
                    refuse_held_out(name)
            else:
                refuse_held_out(name)
    for subject in {s for subjects in const.SUBJECT_MINI_RELEASE_MAP.values() for s in subjects}:
        refuse_held_out(Path("data", f"sub-{subject}"))


def test_what_may_be_used():
    assert len(RELEASES) == 10 and "R5" not in RELEASES and len(EXCLUDED_SUBJECTS) == 9
    assert check_release("r11") == "R11" and check_release(3) == "R3"
    assert check_tasks(["restingstate", "contrastChangeDetection"]) == ("RestingState", "contrastChangeDetection")
    for wrong, match in (("R12", "Unknown release"), ("R5", "release 5")):
        with pytest.raises(ValueError, match=match):
            check_release(wrong)
    with pytest.raises(ValueError, match="'sleep' is unknown"):
        check_tasks(["sleep"])
