"""Both trainings, stopped in the middle and gone on with in another session, end in the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorSettings, GeneratorTraining
from nbkit.neuro.bandvar.tokens.token_data import TokenData
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerSettings, TokenizerTraining
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

pytestmark = pytest.mark.train


@pytest.fixture
def windows(write_recording):
    def of(run):
        levels = np.cumsum(np.random.default_rng(run).normal(size=(12, 3, 4, 40)) * 20, axis=1)
        labels = np.array(["T0", "T1"] * 6)
        return write_recording(run=str(run), levels=levels, label=labels, source=np.array("eegbci"))

    return BandData([of(run) for run in (3, 4, 5)], batch_size=8)


def tokenizer(windows):
    torch.manual_seed(0)
    settings = replace(TokenizerSettings.smoke(), codes=48, max_steps=50)
    return TokenizerTraining.for_data(settings, windows), windows


def generator(windows):
    coder, _ = tokenizer(windows)
    data = TokenData(windows, coder.tokenizer, 8)
    settings = replace(GeneratorSettings.smoke(), depth=1, drop_path=0.2, max_steps=50)
    return GeneratorTraining.for_data(settings, coder, data), data


@pytest.mark.parametrize("make", [tokenizer, generator])
def test_a_training_in_two_sessions_is_the_training_in_one(make, windows, tmp_path):
    def session(name, stop=None):
        made = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        callbacks = [StopAt(made, stop)] if stop else []
        module, data = make(windows)
        report = fit(made, module, data, max_steps=50, val_check_interval=7, callbacks=callbacks)
        assert not [line for line in made.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    half, _ = session("halves", stop=23)
    rest, second = session("halves")
    assert whole.complete and not half.complete and half.step == 23 and rest.resumed_from == 23 and rest.complete
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "whole"))
    mine, theirs = first.state_dict(), second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
