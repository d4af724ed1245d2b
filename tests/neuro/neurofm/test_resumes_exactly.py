"""Pretraining and the identification of new units, stopped in the middle and gone on with, end in the same bits."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest

from nbkit.neuro.neurofm.adapt import identify_units
from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.pretrain import Pretrainer
from tests.neuro.neurofm.spike_files import TINY, write_populations
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

pytestmark = pytest.mark.train

STEPS, STOP = 24, 9


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_populations(tmp_path_factory.mktemp("spikes"), units=(9, 12, 6), snr=(0.9, 0.6, 0.3))


def pretraining(paths):
    # the curriculum is in its stages on both sides of the stop, and units are drawn
    data = SpikeData(paths, 4, max_units=8, gap_s=1.0)
    lightning.seed_everything(1, verbose=False)
    return Pretrainer.for_data(replace(TINY, steps=STEPS, curriculum_share=0.8), data), data


def identification(paths):
    known = SpikeData(paths[:2], 4, gap_s=1.0)
    lightning.seed_everything(1, verbose=False)
    module = Pretrainer.for_data(replace(TINY, steps=STEPS), known)
    data = SpikeData(paths[2:], 4, gap_s=1.0, table=module.table)
    identify_units(module, data)
    return module, data


@pytest.mark.parametrize("make", [pretraining, identification])
def test_a_training_in_two_sessions_is_the_training_in_one(make, paths, tmp_path):
    assert_the_same_in_sessions(lambda _: make(paths), tmp_path, STEPS, [STOP])
