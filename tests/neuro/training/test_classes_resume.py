"""A classifier with its rival, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.labram import finetune as labram
from tests.neuro.training.rhythms import write_rhythms
from tests.neuro.training.test_classification import LABRAM, data_of, made
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

pytestmark = pytest.mark.train

STEPS, STOP = 14, 6


def test_a_training_in_two_sessions_is_the_training_in_one(tmp_path):
    folder = write_rhythms(tmp_path / "windows", windows=12)

    def make(_):
        data = data_of(folder)
        return made(labram, replace(LABRAM, steps=STEPS), data), data

    monitor = make("")[0].monitor
    _, checkpoint = assert_the_same_in_sessions(make, tmp_path, STEPS, [STOP], check=3, monitor=monitor)
    said = checkpoint["labram_finetune"]
    assert said["classes"] == ["rest", "task"] and said["column"] == "label"
