"""A classifier with its rival, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.labram import finetune as labram
from nbkit.runtime.training.fit import fit
from tests.neuro.training.rhythms import write_rhythms
from tests.neuro.training.test_classification import LABRAM, data_of, made
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

pytestmark = pytest.mark.train

STEPS, STOP = 14, 6


def test_a_training_in_two_sessions_is_the_training_in_one(tmp_path):
    folder = write_rhythms(tmp_path / "windows", windows=12)

    def session(name, stop=None):
        running = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        data = data_of(folder)
        module = made(labram, replace(LABRAM, steps=STEPS), data)
        stops = [StopAt(running, stop)] if stop else []
        report = fit(
            running, module, data, max_steps=STEPS, val_check_interval=3, monitor=module.monitor, callbacks=stops
        )
        assert not [line for line in running.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    half, _ = session("halves", stop=STOP)
    rest, second = session("halves")
    assert whole.complete and half.step == STOP and rest.resumed_from == STOP and rest.complete
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "whole"))
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
    said = checkpoint_of(tmp_path / "halves")["labram_finetune"]
    assert said["classes"] == ["rest", "task"] and said["column"] == "label"
