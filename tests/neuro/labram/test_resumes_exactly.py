"""Each of LaBraM's trainings, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.neuro.labram import test_codebook, test_finetune, test_pretrain
from tests.neuro.labram.training import Windows
from tests.neuro.training import test_rivals
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

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
    def with_data(_):
        data = Windows()
        return make(data), data

    assert_the_same_in_sessions(with_data, tmp_path, STEPS, [STOP])
