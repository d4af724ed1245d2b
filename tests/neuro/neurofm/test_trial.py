"""A trial: the same row gives the same bits, wherever and after whatever it is done, a kill included."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import nbkit
from nbkit.neuro.neurofm import trial as trial_module
from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.network.losses import poisson_nll
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.search import trial_row
from nbkit.neuro.neurofm.trial import Trial, chosen_recordings, one_draw, read_trials, saturated_nll, score, workers
from tests.neuro.neurofm.spike_files import TINY, write_populations

MEASURED = "seconds"


def row(seed: int = 0, recordings: int = 2, dim: int = 16) -> dict:
    return trial_row("data", dim=dim, blocks=1, latents=4, recordings=recordings, judged=1, seed=seed, epochs=1)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("spikes")
    return tuple(map(str, write_populations(folder, units=(9, 5, 7))))


@pytest.fixture
def make(paths):
    return Trial(replace(TINY, warmup_epochs=0.1), paths)


def same(one: dict, other: dict) -> bool:
    return {n: v for n, v in one.items() if n != MEASURED} == {n: v for n, v in other.items() if n != MEASURED}


def test_the_same_row_gives_the_same_bits_whatever_was_drawn_before(make):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make(row())
    assert torch.equal(torch.get_rng_state(), before), "a trial leaves the notebook's generator alone"
    torch.randn(17)
    strings = {name: str(value) for name, value in row().items()}  # as a manifest gives them
    assert same(make(strings), first)
    assert not same(make(row(seed=1)), first)
    assert first["loss"] == pytest.approx(first["mean_rate_loss"] - first["bits_per_spike"], abs=1e-9)
    assert first["steps"] > 0 and first["compute"] > 0 and first[MEASURED] > 0 and np.isfinite(first["r2"])


@pytest.mark.train
def test_two_processes_give_the_bits_of_one(make):
    rows = [row(), row(seed=1)]
    with workers(2) as executor:
        there = list(executor.map(make, rows))
    assert all(same(make(one), other) for one, other in zip(rows, there, strict=True))
    with workers(1) as executor:
        assert executor is None


_SCRIPT = """
import os, signal, sys, threading
from dataclasses import replace
import nbkit
from nbkit.neuro.neurofm.trial import Trial
from tests.neuro.neurofm.spike_files import TINY
from tests.neuro.neurofm.test_trial import row

store, folder, paths = sys.argv[1], sys.argv[2], tuple(sys.argv[3:])
make, asked = Trial(replace(TINY, warmup_epochs=0.1), paths), []

def process(item):
    asked.append(item["key"])
    if len(asked) == 2:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return make(item)

session = nbkit.open_session("neurofm_search", store=store, folder=folder)
session.map(process, [row(), row(seed=1), row(seed=2)])
"""


@pytest.mark.kill
def test_a_killed_trial_is_done_again_whole_with_the_same_result(make, paths, tmp_path, root):
    store, folder = tmp_path / "store", tmp_path / "work"
    command = [sys.executable, "-c", _SCRIPT, str(store), str(folder), *paths]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    killed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -9, killed.stderr[-2000:]
    session = nbkit.open_session("neurofm_search", store=store, folder=folder)
    session.map(make, [row(), row(seed=1), row(seed=2)])
    found = read_trials(session.inputs("neurofm_search"))
    assert session.close()["complete"]
    assert [trial["seed"] for trial in found] == [0, 1, 2]
    assert all(same(make(row(seed=trial["seed"])), trial) for trial in found)


def test_scores_are_those_of_a_loop_over_every_hidden_unit(paths):
    with one_draw(0):
        data = SpikeData(paths[:2], 4, fractions=trial_module.FRACTIONS)
        module = Pretrainer.for_data(TINY, data).eval()
        torch.nn.init.normal_(module.model.counts.state.weight, std=0.3)  # else it is the mean-rate model
        found = score(module, data.test_dataloader())
    turns = max(2, round(1 / TINY.mask_ratio))
    model_loss = mean_loss = spikes = 0.0
    for batch in data.test_dataloader():
        counts = batch["counts"].double()
        by_mean = module.model.book.mean_log_counts(batch["unit"]).double()[:, None].expand_as(counts)
        for turn in range(turns):
            hidden = ((batch["slot"] + turn) % turns == 0) & batch["present"]
            with torch.no_grad():
                told = module(batch, hidden).log_counts.double()
            for window, unit in hidden.nonzero().tolist():
                y = counts[window, :, unit]
                least = torch.where(y > 0, y - y * y.clamp(min=1).log(), 0.0)
                model_loss += float((poisson_nll(told[window, :, unit], y) - least).sum())
                mean_loss += float((poisson_nll(by_mean[window, :, unit], y) - least).sum())
                spikes += float(y.sum())
    scale = 1 / spikes / np.log(2)
    assert found["loss"] == pytest.approx(model_loss * scale, rel=1e-6)
    assert found["mean_rate_loss"] == pytest.approx(mean_loss * scale, rel=1e-6)
    assert found["bits_per_spike"] == pytest.approx((mean_loss - model_loss) * scale, rel=1e-5)


def test_no_prediction_has_a_lower_nll_than_the_saturated_one():
    counts = torch.tensor([0.0, 1.0, 2.0, 7.0, 0.3], dtype=torch.float64)
    guesses = torch.linspace(-5, 3, 2001, dtype=torch.float64)[:, None].expand(-1, 5)
    lowest = poisson_nll(guesses, counts.expand_as(guesses)).min(dim=0).values
    assert (saturated_nll(counts) <= lowest + 1e-12).all()
    assert torch.allclose(saturated_nll(counts)[1:], lowest[1:], atol=1e-4)


def test_operations_are_counted_as_torch_counts_them():
    layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))
    inputs = torch.randn(5, 8, requires_grad=True)
    with FlopCounterMode(display=False) as theirs:
        layers(inputs).sum().backward()
    with trial_module._Flops() as ours:
        layers(inputs).sum().backward()
    assert ours.total == theirs.get_total_flops() == 3 * 2 * 5 * (8 * 16 + 16 * 4)


def test_every_trial_trains_on_the_recordings_that_are_scored():
    for seed in range(20):
        chosen = chosen_recordings(9, 2, 5, seed)
        assert chosen[:2] == [0, 1] and len(set(chosen)) == 5 and max(chosen) < 9
    assert len({tuple(chosen_recordings(9, 2, 5, seed)) for seed in range(20)}) > 5, "the others are the seed's"
    with pytest.raises(ValueError, match="A trial needs 10 recordings with 2 of them scored, but there are 9"):
        chosen_recordings(9, 2, 10, 0)
