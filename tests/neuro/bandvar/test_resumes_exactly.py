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
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

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
    assert_the_same_in_sessions(lambda _: make(windows), tmp_path, 50, [23], check=7)
