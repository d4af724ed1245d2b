"""Each of LaBraM's trainings, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.runtime.training.fit import fit
from tests.neuro.labram import test_codebook, test_finetune, test_pretrain
from tests.neuro.labram.training import Windows
from tests.neuro.training import test_rivals
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

pytestmark = pytest.mark.train

STEPS, STOP = 30, 11


def codebook(data):
    # codes are still being clustered when it stops, and unused ones are put elsewhere on both sides of it
    return test_codebook.made(data, replace(test_codebook.TINY, codebook_size=48, restart_below=0.5, steps=STEPS))


def pretrain(data):
    return test_pretrain.made(replace(test_pretrain.TINY, steps=STEPS))


def finetune(data):
    return test_finetune.made(data, replace(test_finetune.TINY, drop_path=0.2, dropout=0.2, steps=STEPS))


def compared(data):
    return test_rivals.made(data, replace(test_rivals.TINY, drop_path=0.2, steps=STEPS))


@pytest.mark.parametrize("make", [codebook, pretrain, finetune, compared])
def test_a_training_in_two_sessions_is_the_training_in_one(make, tmp_path):
    def session(name, stop=None):
        made = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        data = Windows()
        module = make(data)
        stops = [StopAt(made, stop)] if stop else []
        report = fit(made, module, data, max_steps=STEPS, val_check_interval=4, callbacks=stops)
        assert not [line for line in made.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    half, _ = session("halves", stop=STOP)
    rest, second = session("halves")
    assert whole.complete and half.step == STOP and rest.resumed_from == STOP and rest.complete
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "whole"))
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
