"""Conditions: names to numbers, and what each window of a file is of."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.bandvar.data import EEGFrequencyDataset
from nbkit.neuro.bandvar.tokens.conditions import Conditions, window_rows
from nbkit.neuro.signals.recordings.eegbci import task_of_run

ROWS = [("rest", "1", "move fists"), ("movement", "2", ""), ("", "1", "move fists")]


def test_numbers_count_from_one_and_zero_is_not_said():
    known = Conditions.of(ROWS)
    assert known == Conditions(("movement", "rest"), ("1", "2"), ("move fists",)) and known.counts == (2, 2, 1)
    assert known.numbers(ROWS).tolist() == [[2, 1, 1], [1, 2, 0], [0, 1, 1]]
    assert known.numbers([("walking", "3", "move fists")]).tolist() == [[0, 0, 1]]
    assert Conditions(**{k: tuple(v) for k, v in known.description().items()}) == known


def test_a_class_is_asked_for_by_name():
    known = Conditions.of(ROWS)
    assert known.asked("rest", 3, subject="2").tolist() == [[2, 2, 0]] * 3
    assert known.asked("", 1).tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="knows movement, rest"):
        known.asked("sleep", 1)


def test_windows_have_the_class_subject_and_task_of_their_file(write_recording):
    labels = np.array(["T0", "T2", "T1", "?"])
    path = write_recording(subject="7", run="4", label=labels, source=np.array("eegbci"))
    rows = window_rows(EEGFrequencyDataset([path]))
    assert rows == [(name, "7", "imagine fists") for name in ("rest", "movement", "movement", "")]
    assert window_rows(EEGFrequencyDataset([path], limit=2)) == rows[:2]
    own = write_recording(subject="9", run="4", label=np.array(["rest", "", "arithmetic", "rest"]))
    assert [name for name, _, _ in window_rows(EEGFrequencyDataset([own]))] == ["rest", "", "arithmetic", "rest"]
    plain = window_rows(EEGFrequencyDataset([write_recording(subject="8", run="4")]))
    assert plain == [("", "8", "")] * 4  # no labels, and no source to know the runs by


def test_tasks_are_physionets():
    # https://physionet.org/content/eegmmidb/1.0.0/: tasks 1 to 4, three times over
    tasks = ("move fists", "imagine fists", "move fists or feet", "imagine fists or feet")
    assert [task_of_run(run) for run in range(3, 15)] == list(tasks) * 3
    assert (task_of_run(1), task_of_run("02"), task_of_run(15), task_of_run("rest")) == (
        "eyes open", "eyes closed", "", "",
    )  # fmt: skip
