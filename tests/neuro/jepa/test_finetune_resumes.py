"""Finetuning with rivals, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.jepa.finetune import ComparedRegressor
from tests.neuro.jepa.factor_windows import FactorWindows
from tests.neuro.jepa.test_finetune import TINY, TINY2, made
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

pytestmark = pytest.mark.train

STEPS, STOP = 18, 7


@pytest.mark.parametrize("settings", [TINY, TINY2], ids=["challenge1", "challenge2"])
def test_a_training_in_two_sessions_is_the_training_in_one(settings, tmp_path):
    def make(_):
        data = FactorWindows(count=48)
        return made(data, replace(settings, steps=STEPS), ComparedRegressor), data

    assert_the_same_in_sessions(make, tmp_path, STEPS, [STOP])
