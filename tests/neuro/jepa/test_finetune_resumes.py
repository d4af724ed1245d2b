"""Finetuning with rivals, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.jepa.finetune import ComparedRegressor
from nbkit.runtime.training.fit import fit
from tests.neuro.jepa.factor_windows import FactorWindows
from tests.neuro.jepa.test_finetune import TINY, TINY2, made
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

pytestmark = pytest.mark.train

STEPS, STOP = 18, 7


@pytest.mark.parametrize("settings", [TINY, TINY2], ids=["challenge1", "challenge2"])
def test_a_training_in_two_sessions_is_the_training_in_one(settings, tmp_path):
    def session(name, stop=None):
        running = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        data = FactorWindows(count=48)
        module = made(data, replace(settings, steps=STEPS), ComparedRegressor)
        stops = [StopAt(running, stop)] if stop else []
        report = fit(running, module, data, max_steps=STEPS, val_check_interval=4, callbacks=stops)
        assert not [line for line in running.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    half, _ = session("halves", stop=STOP)
    rest, second = session("halves")
    assert whole.complete and half.step == STOP and rest.resumed_from == STOP and rest.complete
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "whole"))
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
