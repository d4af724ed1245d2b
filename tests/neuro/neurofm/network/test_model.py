"""The network: units as a set, hidden counts unseen, tasks mixed in a batch, cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nbkit.neuro.neurofm.data.batches import SpikeData, collate
from nbkit.neuro.neurofm.network.model import NeuroFM, NeuroFMSettings
from nbkit.neuro.neurofm.network.units import RecordingUnits, Task, UnitTable
from tests.neuro.neurofm.spike_files import TINY, write_populations


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SpikeData(write_populations(tmp_path_factory.mktemp("spikes")), gap_s=1.0)


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    made = NeuroFM(replace(TINY, stitch=True), data.table).double().eval()
    for weight in made.parameters():  # nothing left at the zeros it starts from
        torch.nn.init.normal_(weight, std=0.2)
    return made


@pytest.fixture(scope="module")
def batch(data):
    windows = data.side("train")
    return {k: v.double() if v.is_floating_point() else v for k, v in collate([windows[0], windows[-1]]).items()}


def test_units_in_another_order_with_their_identities_change_nothing(model, batch):
    order = torch.randperm(9)
    moved = dict(batch)
    for name in ("unit", "slot", "present"):
        moved[name] = batch[name][:, order]
    moved["counts"] = batch["counts"][:, :, order]
    hidden = (batch["slot"] % 3 == 1) & batch["present"]
    one, other = model(batch, hidden), model(moved, hidden[:, order])
    for name in ("states", "behaviour", "latents", "place"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-10), name
    assert torch.allclose(one.log_counts[:, :, order], other.log_counts, atol=1e-6)
    identities = {**moved, "unit": batch["unit"]}  # the order alone: other units said what these had said
    assert not torch.allclose(model(identities, hidden[:, order]).states, one.states, atol=1e-3)


def test_hidden_counts_and_padding_reach_nothing(model, batch):
    hidden = (batch["slot"] % 3 == 1) & batch["present"]
    unread = hidden | ~batch["present"]
    other = {**batch, "counts": torch.where(unread[:, None], batch["counts"] + 7, batch["counts"])}
    for one, two in zip(model(batch, hidden), model(other, hidden), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(model(batch).states, model(batch, hidden).states)


def test_a_window_is_read_alike_alone_and_beside_wider_ones(model, data):
    window = data.side("train")[-1]  # of the recording with fewer units
    alone, beside = collate([window]), collate([data.side("train")[0], window])
    assert alone["counts"].shape[2] < beside["counts"].shape[2]
    for one, two in zip(model(alone), model(beside), strict=True):
        assert torch.allclose(one[0], two[1, ..., : one.shape[-1]] if one.ndim == 3 else two[1], atol=1e-9)


def test_tasks_mix_in_a_batch():
    tasks = [Task("velocity", "cm/s", (0.0, 0.0), (10.0, 10.0)), Task("angle", "rad", (0.1,), (0.5,))]
    table = UnitTable(
        [
            RecordingUnits(n, ("u",), (0.1,), "mouse/x", t)
            for n, t in (("a", "velocity"), ("b", "angle"), ("c", "none"))
        ],
        tasks,
    )
    model = NeuroFM(TINY, table).eval()
    states = torch.randn(3, 5, TINY.dim)
    mixed = model.behaviour(states, torch.tensor([1, 2, 0]))
    for row, task in enumerate((1, 2, 0)):
        alone = model.behaviour(states[row : row + 1], torch.tensor([task]))
        assert torch.allclose(mixed[row], alone[0], atol=1e-6)
    assert not torch.allclose(model.behaviour(states, torch.tensor([2, 2, 2]))[0], mixed[0])
    values = torch.randn(3, 5, 2)
    task = torch.tensor([1, 2, 0])
    assert torch.allclose(model.in_units(model.standardised(values, task), task), values, atol=1e-5)
    model.behaviour(states, torch.tensor([1, 1, 1])).sum().backward()
    assert model.behaviour.inner.grad[2].abs().sum() == 0 < model.behaviour.inner.grad[1].abs().sum()


def test_an_untrained_network_is_the_mean_rate_model(data, batch):
    model = NeuroFM(TINY, data.table)
    plain = {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}
    expected = model.book.mean_log_counts(plain["unit"])[:, None].expand_as(plain["counts"])
    assert torch.allclose(model(plain).log_counts, expected)


@pytest.mark.parametrize(
    ("preset", "dim", "latents", "blocks"),
    [
        ("quick_test", 128, 32, 4), ("small", 64, 16, 4), ("medium", 128, 32, 4), ("large", 256, 64, 4),
        ("xl", 512, 128, 4), ("hyperparam_small", 128, 32, 4), ("hyperparam_medium", 256, 64, 4),
        ("hyperparam_large", 256, 64, 8), ("cloud_aws_a100", 256, 64, 8), ("free", 128, 32, 4),
        ("phase_1", 128, 32, 4), ("phase_3", 256, 64, 8), ("phase_5", 256, 64, 8), ("smoke", 32, 8, 1),
        ("one_recording", 32, 8, 1),
    ],
)  # fmt: skip
def test_presets_are_the_sheets(preset, dim, latents, blocks, data):
    settings = getattr(NeuroFMSettings, preset)()
    assert (settings.dim, settings.latents, settings.blocks) == (dim, latents, blocks)
    if preset not in ("smoke", "one_recording"):
        assert (settings.n_bins, settings.bin_s, settings.max_units, settings.mask_ratio) == (100, 0.01, 384, 0.15)
        assert settings.rates == (1, 4) and settings.lr == 3e-4 and settings.weight_decay == 0.01
    if dim <= 128:
        NeuroFM(settings, data.table)


def test_precision_of_sixteen_bits_is_near(data, batch):
    torch.manual_seed(0)
    model = NeuroFM(TINY, data.table).eval()
    torch.nn.init.normal_(model.counts.state.weight, std=0.2)
    plain = {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}
    plain["counts"] = plain["counts"] * 20  # bursts
    full = model(plain)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(plain)
    assert half.log_counts.dtype == torch.float32 and torch.isfinite(half.log_counts).all()
    assert torch.allclose(full.log_counts, half.log_counts, atol=0.2)


def test_what_was_not_observed_reaches_nothing_and_is_not_silence(model, batch):
    observed = torch.rand(batch["counts"].shape, generator=torch.Generator().manual_seed(5)) < 0.7
    observed[:, 3] = False  # a bin in which nobody was observed
    masked = {**batch, "observed": observed, "next_observed": observed}
    other = {**masked, "counts": torch.where(observed, batch["counts"], batch["counts"] + 7)}
    for one, two in zip(model(masked), model(other), strict=True):
        assert torch.equal(one, two)
    silent = {**batch, "counts": torch.where(observed, batch["counts"], 0.0)}
    assert not torch.allclose(model(masked).states, model(silent).states, atol=1e-3)
    whole = {**batch, "observed": torch.ones_like(observed[:, :, :1])}
    assert torch.allclose(model(whole).states, model(batch).states, atol=1e-12)


def test_a_trace_may_be_negative_and_has_tokens_with_its_sign(model, batch):
    trace = {**batch, "counts": batch["counts"] - 1.0, "trace": torch.tensor([True, False])}
    trace["counts"][1] = batch["counts"][1]
    answer = model(trace)
    assert all(torch.isfinite(part).all() for part in answer)
    assert torch.allclose(answer.states[1], model(batch).states[1], atol=1e-12), "counts beside it are read as before"
    turned = {**trace, "counts": torch.where(trace["trace"][:, None, None], -trace["counts"], trace["counts"])}
    assert not torch.allclose(model(turned).states[0], answer.states[0], atol=1e-3)
