"""The pretraining, stopped in the middle and gone on with in other sessions, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.jepa.pretrain import OBJECTIVES
from nbkit.runtime.training.fit import fit
from tests.neuro.jepa.training import SETTINGS, Windows, made
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

pytestmark = pytest.mark.train

STEPS = 22
STOPS = (7, 13)  # neither is a step with the masked term, so a counter that began again would mask other batches


@pytest.mark.parametrize("objective, latent_steps", list(zip(OBJECTIVES, (1, 1, 4), strict=True)))
def test_a_training_in_three_sessions_is_the_training_in_one(objective, latent_steps, tmp_path):
    settings = replace(SETTINGS, steps=STEPS, patience_steps=100, latent_steps=latent_steps).aimed(objective)

    asked = {"whole": [], "parts": []}

    def session(name, stop=None):
        opened = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        module = made(settings)
        masked = module.masked
        module.masked = lambda windows: asked[name].append(module.global_step) or masked(windows)
        stops = [StopAt(opened, stop)] if stop else []
        report = fit(opened, module, Windows(), max_steps=STEPS, val_check_interval=4, callbacks=stops)
        assert not [line for line in opened.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    reports = [session("parts", stop)[0] for stop in STOPS]
    rest, second = session("parts")
    assert [r.step for r in reports] == list(STOPS) and rest.resumed_from == STOPS[-1]
    assert whole.complete and rest.complete
    assert digest(checkpoint_of(tmp_path / "parts")) == digest(checkpoint_of(tmp_path / "whole"))
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
    assert asked["whole"] == asked["parts"] == [0, 5, 10, 15, 20]
    if settings.ema:
        fast = first.encoder.state_dict()
        assert any(not torch.equal(fast[name], slow) for name, slow in first.target.state_dict().items())
