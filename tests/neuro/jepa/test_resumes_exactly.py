"""The pretraining, stopped in the middle and gone on with in other sessions, ends in the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.jepa.pretrain import OBJECTIVES
from tests.neuro.jepa.training import SETTINGS, Windows, made
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

pytestmark = pytest.mark.train

STEPS = 22
STOPS = (7, 13)  # neither is a step with the masked term, so a counter that began again would mask other batches


@pytest.mark.parametrize("objective, latent_steps", list(zip(OBJECTIVES, (1, 1, 4), strict=True)))
def test_a_training_in_three_sessions_is_the_training_in_one(objective, latent_steps, tmp_path):
    settings = replace(SETTINGS, steps=STEPS, patience_steps=100, latent_steps=latent_steps).aimed(objective)

    asked = {"whole": [], "parts": []}

    def make(name):
        module = made(settings)
        masked = module.masked
        module.masked = lambda windows: asked[name].append(module.global_step) or masked(windows)
        return module, Windows()

    first, _ = assert_the_same_in_sessions(make, tmp_path, STEPS, STOPS)
    assert asked["whole"] == asked["parts"] == [0, 5, 10, 15, 20]
    if settings.ema:
        fast = first.encoder.state_dict()
        assert any(not torch.equal(fast[name], slow) for name, slow in first.target.state_dict().items())
