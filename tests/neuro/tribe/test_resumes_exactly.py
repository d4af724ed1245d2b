"""Each phase's training, stopped in the middle and gone on with in another session, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.tribe.distill import DistillSettings, DistillTribe
from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe
from nbkit.neuro.tribe.pretrain import PretrainSettings, PretrainTribe
from nbkit.neuro.tribe.runs.runs import split_runs
from nbkit.neuro.tribe.runs.windows import TribeData
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

pytestmark = pytest.mark.train

STEPS = 10
SIZES = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24, "dropout": 0.1}
PHASES = {  # in each, something changes on both sides of the break
    "pretrain": (PretrainTribe, replace(PretrainSettings.smoke(), router_steps=8)),
    "distill": (DistillTribe, replace(DistillSettings.smoke(), dropout=0.3)),
    "fmri": (FmriTribe, replace(FmriSettings.smoke(), times_first_until=0.7)),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_training_in_two_sessions_is_the_training_in_one(phase, some_runs, tmp_path):
    kind, smoke = PHASES[phase]
    settings = replace(smoke, student=smoke.student.of(**SIZES), steps=STEPS, batch_size=4)
    train_runs, val_runs = split_runs(some_runs, 0.34)
    calls = []

    def make(name):
        calls.append(name)
        # other first weights in each later session: the checkpoint must replace all of them
        torch.manual_seed(max(0, calls.count("parts") - 1))
        return kind(settings), TribeData(train_runs, val_runs, settings.times, None, settings.batch_size)

    assert_the_same_in_sessions(make, tmp_path, STEPS, [5])
    assert calls == ["whole", *["parts"] * 3]  # the last one opens what is complete
