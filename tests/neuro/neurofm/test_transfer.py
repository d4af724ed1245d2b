"""Transfer: what is held out stays out, every way has the same windows and steps, a case is a function of its row."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.neurofm.adapt import shared_weights
from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.transfer import (
    HELD_OUT,
    OTHER,
    WAYS,
    Adaptation,
    TransferSettings,
    hold_out,
    labelled,
    transfer_rows,
)
from nbkit.neuro.neurofm.trial import FRACTIONS, one_draw, train
from tests.neuro.neurofm.spike_files import TINY, write_populations

SETTINGS = replace(TransferSettings.smoke(), shots=(0, 2), steps=3)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spikes")
    modality = ("neuropixels",) * 4 + ("two-photon",)
    return write_populations(folder, units=(9, 5, 7, 6, 8), modality=modality)


@pytest.fixture(scope="module")
def held(paths):
    return hold_out(paths, SETTINGS)


@pytest.fixture(scope="module")
def checkpoint(held, tmp_path_factory):
    """A short pretraining, written as a session writes one."""
    with one_draw(0):
        data = SpikeData(held.pretraining, 8, fractions=FRACTIONS)
        module = Pretrainer.for_data(replace(TINY, steps=4, warmup_steps=1, patience_epochs=0), data)
        quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        trainer = lightning.Trainer(max_steps=4, accelerator="cpu", limit_val_batches=0, **quiet)
        trainer.fit(module, data.train_dataloader())
        path = tmp_path_factory.mktemp("pretrained") / "best.ckpt"
        trainer.save_checkpoint(path)
    return path


@pytest.fixture
def adapt(checkpoint, held):
    return Adaptation(str(checkpoint), tuple(map(str, (*held.held, *held.other))), SETTINGS)


def test_other_modalities_and_a_share_of_the_common_one_are_held_out(paths, held):
    names = [path.stem for part in (held.pretraining, held.held, held.other) for path in part]
    assert sorted(names) == [path.stem for path in paths] and held.other[0].stem == "rec4"
    assert (len(held.pretraining), len(held.held)) == (2, 2)
    rows = transfer_rows(held, SETTINGS)
    assert len(rows) == 3 * 2 and {row["kind"] for row in rows} == {HELD_OUT, OTHER}
    assert len({row["key"] for row in rows}) == 6
    free = transfer_rows(held, TransferSettings.free())
    assert {row["shots"] for row in free} == {0, 1, 2, 5, 10} and {row["seed"] for row in free} == {0, 1, 2}


@pytest.mark.parametrize("shots", [0, 2])
def test_a_case_is_a_function_of_its_row(adapt, held, shots):
    row = next(row for row in transfer_rows(held, SETTINGS) if row["shots"] == shots and row["kind"] == HELD_OUT)
    first = adapt(row)
    torch.randn(5)
    again = adapt({name: str(value) for name, value in row.items()})
    assert {k: str(v) for k, v in first.items()} == {k: str(v) for k, v in again.items()}
    assert all(np.isfinite(first[f"{score}_{way}"]) for score in ("r2", "bits") for way in WAYS)
    assert np.isfinite(first["r2_wiener"]) == (shots > 0) and np.isfinite(first["r2_possible"]) == (shots == 0)


def test_identifying_leaves_shared_weights_to_the_bit_and_finetuning_does_not(adapt, held):
    for way, touched in (("identified", False), ("finetuned", True)):
        with one_draw(0):
            module, data = adapt._begin(way, str(held.held[0]), 2, 0)
            new = module.model.book.pages[-1:]
            before, page = shared_weights(module, new), new[0].unit_embed.detach().clone()
            train(module, data.train_dataloader(), "cpu", "32-true")
        after = shared_weights(module, new)
        assert any(not torch.equal(before[name], after[name]) for name in before) == touched
        assert not torch.equal(page, new[0].unit_embed)


def test_every_way_has_the_same_windows_steps_and_pages(adapt, held):
    made = []
    for way in WAYS:
        with one_draw(0):
            made.append(adapt._begin(way, str(held.held[0]), 2, 0))
    modules, data = zip(*made, strict=True)
    assert {len(one.side("train")) for one in data} == {2} and {m.settings.steps for m in modules} == {3}
    assert len({tuple(one.windows[0][0]) for one in data}) == 1
    assert len({len(m.model.book.pages) for m in modules}) == 1
    weights = [m.model.encoder.norm.weight.detach().sum().item() for m in modules]
    assert weights[0] == weights[1] != weights[2]


def test_without_shots_no_label_is_learned_from(adapt, held):
    with one_draw(0):
        module, data = adapt._begin("finetuned", str(held.held[0]), 0, 0)
        before = module.model.behaviour.outer.detach().clone()
        assert module.settings.behaviour_weight == 0 and len(data.side("train")) > 2
        batch = next(iter(data.train_dataloader()))
        module.total(module.losses(batch, batch["present"], torch.ones(len(batch["task"])))).backward()
    assert float(module.model.behaviour.outer.grad.abs().sum()) == 0 and torch.equal(
        before, module.model.behaviour.outer
    )


def test_shots_are_drawn_by_the_seed_and_more_than_there_are_are_refused(held):
    data = SpikeData(held.held[:1], fractions=FRACTIONS)
    drawn = {tuple(labelled(data, 3, seed)) for seed in range(9)}
    assert len(drawn) > 4 and all(len(set(one)) == 3 for one in drawn)
    with pytest.raises(ValueError, match="99 shots were requested"):
        labelled(data, 99, 0)
