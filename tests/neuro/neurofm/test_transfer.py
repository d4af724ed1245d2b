"""Transfer: what is held out stays out, every way has the same windows and steps, a case is a function of its row."""

from __future__ import annotations

import re
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.neurofm import transfer as transfer_module
from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.transfer import (
    HELD_OUT,
    OTHER,
    WAYS,
    Adaptation,
    TransferSettings,
    adaptations,
    hold_out,
    labelled,
    transfer_rows,
)
from nbkit.neuro.neurofm.trial import FRACTIONS, one_draw, train
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.windows import SpikeShard, write_windows
from tests.neuro.neurofm.spike_files import TINY, write_populations

SETTINGS = replace(TransferSettings.smoke(), shots=(1, 2), steps=3, shot_steps=2, ways=WAYS)

SETTINGS_EACH = replace(SETTINGS, each=True)


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
    assert len(rows) == 3 and {row["kind"] for row in rows} == {HELD_OUT, OTHER}
    assert TransferSettings.free().shots == (1, 2, 5, 10) and TransferSettings.free().seeds == (0, 1, 2)
    each = hold_out(paths, replace(SETTINGS, each=True))
    assert each.held == each.pretraining and len(each.held) == 4
    turned = hold_out(paths, replace(SETTINGS, modality="two-photon", held_share=0.0))
    assert [path.stem for path in turned.pretraining] == ["rec4"] and len(turned.other) == 4
    with pytest.raises(ValueError, match="No recording has the modality 'x'; they have neuropixels, two-photon"):
        hold_out(paths, replace(SETTINGS, modality="x"))


def test_recordings_of_one_subject_are_never_on_both_sides(tmp_path):
    small = replace(PopulationSettings.smoke(), units=3, duration_s=5.0)
    made = [replace(simulate_population(small, f"r{n}", 0), subject="abc"[n // 2]) for n in range(6)]
    paths = write_windows(tmp_path, made, 20)
    for seed in range(8):
        found = hold_out(paths, replace(SETTINGS, held_share=0.34), seed)
        whose = [{SpikeShard(path).subject for path in part} for part in (found.pretraining, found.held)]
        assert whose[0] and whose[1] and not whose[0] & whose[1]


def test_a_case_is_a_function_of_its_row(adapt, held):
    row = next(row for row in transfer_rows(held, SETTINGS) if row["kind"] == HELD_OUT)
    few = replace(adapt, settings=replace(SETTINGS, ways=("identified", "scratch"), shots=(2,)))
    first = few(row)
    torch.randn(5)
    again = few({name: str(value) for name, value in row.items()})
    assert {k: str(v) for k, v in first.items()} == {k: str(v) for k, v in again.items()}


def test_a_case_has_all_ways_and_rivals(adapt, held):
    row = next(row for row in transfer_rows(held, SETTINGS) if row["kind"] == OTHER)
    found = replace(adapt, settings=replace(SETTINGS, steps=1, shot_steps=1))(row)
    for way in WAYS:
        assert np.isfinite(found[f"score_{way}"]).all() and found[f"score_{way}"].shape == (2,)
        assert np.isfinite([found[f"bits_{way}"], found[f"nlb_{way}"]]).all()
    assert found["score_Wiener"].shape == (2,) and "score_LDA" not in found and np.isfinite(found["possible"])
    assert found["unit"] == "bit/spike" and found["score_is"] == "R2" and np.isfinite(found["bits_untouched"])


def test_another_pretraining_leaves_out_the_held_recording(held):
    paths = tuple(sorted(map(str, (*held.pretraining, *held.held))))
    network = replace(TINY, steps=2, warmup_steps=1)
    adapt = adaptations("none", hold_out(paths, replace(SETTINGS, each=True)), SETTINGS_EACH, network, "cpu", "32-true")
    assert adapt.pretraining == paths
    module = adapt._pretrained(paths[0], 0)
    names = [recording.name for recording in module.table.recordings]
    assert len(names) == 3 and SpikeShard(paths[0]).name not in names


def begun(adapt, way, held):
    with one_draw(0):
        pretrained = adapt._pretrained(str(held.held[0]), 0)
        data = adapt._data(str(held.held[0]), pretrained, 0)
        return adapt._begin(way, pretrained, data), data


def changed(before, module):
    after = dict(module.named_parameters())
    return {name for name in before if name in after and not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("way", "moves"),
    [
        ("identified", r"model\.book\.pages\.2\.(unit_embed|log_rate)"),
        ("stitched", r"model\.book\.pages\.2\.(unit_embed|log_rate|stitch_embed)"),
    ],
)
def test_a_way_that_keeps_the_network_changes_the_new_recording_alone(adapt, held, way, moves):
    module, data = begun(adapt, way, held)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    with one_draw(0):
        train(module, data.train_dataloader(), "cpu", "32-true")
    moved = changed(before, module)
    assert moved and all(re.fullmatch(moves, name) for name in moved), moved
    state = {name: value.clone() for name, value in module.state_dict().items()}
    windows = labelled(data, 2, 0)
    assert np.isfinite(transfer_module._probed(module, data, windows))
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items()), "labels fit a head only"
    assert len(data.side("train")) > 2, "the unlabelled windows are all there again"


def test_lora_leaves_the_frozen_weights_and_the_units_as_they_are(adapt, held):
    module, data = begun(adapt, "lora", held)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    with one_draw(0):
        adapt._learn_labels(module, "lora", data, labelled(data, 2, 0), state)
    trainable = [name for name, weight in module.named_parameters() if weight.requires_grad]
    assert any("lora" in name for name in trainable)
    assert all("lora" in name or name.startswith("model.behaviour.") for name in trainable), trainable
    assert torch.equal(module.model.book.pages[2].unit_embed, state["model.book.pages.2.unit_embed"])


def test_every_way_has_the_same_windows_and_steps_and_scratch_alone_random_weights(adapt, held):
    modules, data = zip(*(begun(adapt, way, held) for way in WAYS), strict=True)
    assert len({len(one.side("train")) for one in data}) == 1 and {m.settings.steps for m in modules} == {3}
    assert len({len(m.model.book.pages) for m in modules}) == 1
    weights = [m.model.encoder.norm.weight.detach().sum().item() for m in modules]
    assert len({*weights[:4]}) == 1 and weights[4] != weights[0]
    assert {m.settings.behaviour_weight for m in modules} == {0.0}, "no label before the shots"


def test_without_shots_no_label_is_learned_from(adapt, held):
    module, data = begun(adapt, "finetuned", held)
    batch = next(iter(data.train_dataloader()))
    with one_draw(0):
        module.total(module.losses(batch, batch["present"], torch.ones(len(batch["task"])))).backward()
    assert float(module.model.behaviour.outer.grad.abs().sum()) == 0


def test_shots_are_drawn_by_the_seed_and_more_than_there_are_are_refused(held):
    data = SpikeData(held.held[:1], fractions=FRACTIONS)
    drawn = {tuple(labelled(data, 3, seed)) for seed in range(9)}
    assert len(drawn) > 4 and all(len(set(one)) == 3 for one in drawn)
    assert set(labelled(data, 2, 5)) < set(labelled(data, 5, 5)), "more shots hold those of fewer"
    with pytest.raises(ValueError, match="99 shots were requested"):
        labelled(data, 99, 0)
