"""The trainings of all six systems pass the proof, at sizes of seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nbkit.neuro.bandvar import make_dummy
from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.training import BandVAR, BandVARSettings
from nbkit.neuro.decoding.training import FineTuneSettings, _Loss, _Training
from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.tribe.distill import DistillSettings, DistillTribe
from nbkit.neuro.tribe.runs.runs import planted_runs, split_runs
from nbkit.neuro.tribe.runs.windows import TribeData
from nbkit.runtime.training.proving.interpreters import Interpreters
from nbkit.runtime.training.proving.proof import prove
from tests.neuro.decoding.test_training import Net, problem
from tests.neuro.jepa import training as jepa
from tests.neuro.labram import test_codebook
from tests.neuro.labram.training import Windows
from tests.neuro.neurofm.spike_files import TINY, write_populations
from tests.neuro.tribe.conftest import WORLD
from tests.runtime.training.training_support import FakeSession

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory):
    with Interpreters(tmp_path_factory.mktemp("proofs") / "log.txt") as running:
        yield running


def labram(folder) -> tuple[Any, Any]:
    data = Windows()
    return test_codebook.made(data, replace(test_codebook.TINY, codebook_size=48, restart_below=0.5)), data


def jepa_objective(folder) -> tuple[Any, Any]:
    return jepa.made(replace(jepa.SETTINGS, patience_steps=100)), Windows()


def bandvar(folder) -> tuple[Any, Any]:
    argv = [str(folder / "set"), "--train-samples", "12", "--val-samples", "3", "--channels", "4", "--time-steps", "32"]
    assert make_dummy.main(argv) == 0
    data = BandData(folder / "set", 4)
    return BandVAR.for_data(BandVARSettings.smoke(), data), data


def neurofm(folder) -> tuple[Any, Any]:
    data = SpikeData(write_populations(folder, units=(9, 12), snr=(0.9, 0.6)), 4, max_units=8, gap_s=1.0)
    return Pretrainer.for_data(replace(TINY, curriculum_share=0.8), data), data


def tribe(folder) -> tuple[Any, Any]:
    smoke = DistillSettings.smoke()
    sizes = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24, "dropout": 0.3}
    settings = replace(smoke, student=smoke.student.of(**sizes), batch_size=4)
    train, val = split_runs(planted_runs(WORLD, range(2), subjects=[0]), 0.5)
    return DistillTribe(settings), TribeData(train, val, settings.times, None, settings.batch_size)


def decoding(folder) -> tuple[Any, Any]:
    network = Net()  # with a frozen part, which must be in evaluation mode after a resume, too
    network.backbone.requires_grad_(False)
    windows, target, _ = problem()
    loader = DataLoader(TensorDataset(torch.from_numpy(windows).float(), torch.from_numpy(target)), 8, shuffle=True)
    settings = FineTuneSettings(steps=30, warmup_steps=2, head_rate=1e-2)
    return _Training(network, _Loss(torch.ones(2)), settings, {"head.weight", "head.bias"}, "fp32"), loader


SYSTEMS: list[Callable[..., tuple[Any, Any]]] = [labram, jepa_objective, bandvar, neurofm, tribe, decoding]


@pytest.mark.parametrize("make", SYSTEMS)
def test_a_system_passes(make, interpreters, tmp_path):
    lightning.seed_everything(1, verbose=False)
    module, data = make(tmp_path)
    session = FakeSession(tmp_path / "session")
    sizes = {"steps": 12, "stops": 4, "val_check_interval": 4, "limit": "20min"}
    report = prove(session, module, data, interpreters=interpreters, **sizes)
    assert report.exact and report.steps == 12, report.words()
