"""New units are taken in, and what is shared stays the same to the bit."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest
import torch

from nbkit.neuro.neurofm.adapt import add_lora_to, add_recordings, identify_units
from nbkit.neuro.neurofm.data.batches import SpikeData, collate
from nbkit.neuro.neurofm.masked_units import held_out_bits
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.validate import compare_decoders
from nbkit.neuro.nn.lora import dead_adapters
from tests.neuro.neurofm.spike_files import TINY, train, write_populations

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_populations(tmp_path_factory.mktemp("spikes"), units=(40, 40, 40), seconds=60.0)


@pytest.fixture(scope="module")
def trained(paths):
    data = SpikeData(paths[:2], gap_s=1.0)
    lightning.seed_everything(1, verbose=False)
    module = Pretrainer.for_data(replace(TINY, steps=120), data)
    train(module, data, 120)
    return module.state_dict(), data


@pytest.fixture
def pretrained(trained):
    state, data = trained
    module = Pretrainer.for_data(replace(TINY, steps=120), data)
    module.load_state_dict(state)
    return module, data


def shared_weights(module, but=()):
    own = {id(weight) for page in but for weight in page.parameters()}
    return {name: weight.detach().clone() for name, weight in module.named_parameters() if id(weight) not in own}


def test_unseen_units_adapt_and_nothing_shared_moves(pretrained, paths):
    module, old = pretrained
    before = shared_weights(module)
    batch = collate([old.side("test")[0]])
    answer = module.eval()(batch).behaviour
    new = SpikeData(paths[2:], gap_s=1.0, table=module.table)
    pages = identify_units(module, new)
    unseen = compare_decoders(module, new, gru_steps=1)[0].value
    module.settings = replace(module.settings, lr=2e-2, steps=120)
    train(module.train(), new, 120)
    assert compare_decoders(module, new, gru_steps=1)[0].value > max(0.5, unseen + 0.3)
    assert held_out_bits(module, new.side("test"))["rec2"].over_training > 0.03
    after = shared_weights(module, but=pages)
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(module.eval()(batch).behaviour, answer)  # the old recordings are read as before


def test_adapters_reach_every_layer_they_are_put_on(pretrained, paths):
    module, _ = pretrained
    new = SpikeData(paths[2:], gap_s=1.0, table=module.table)
    (page,) = identify_units(module, new)
    batch = collate([new.side("train")[i] for i in range(4)])
    plain = module.eval()(batch).behaviour
    report = add_lora_to(module, r=2)
    assert torch.equal(module.eval()(batch).behaviour, plain) and page.unit_embed.requires_grad
    before = shared_weights(module, but=[page])
    hidden = (batch["slot"] % 5 == 0) & batch["present"]
    module.total(module.losses(batch, hidden, torch.ones(4))).backward()
    assert dead_adapters(module) == [] and len(report.adapters) > 12
    optimizer = module.configure_optimizers()["optimizer"]
    optimizer.step()
    moved = [name for name, value in shared_weights(module, but=[page]).items() if not torch.equal(value, before[name])]
    assert moved and all(".lora_" in name for name in moved)


def test_a_module_with_more_recordings_goes_through_a_checkpoint(pretrained, paths, tmp_path):
    module, _ = pretrained
    new = SpikeData(paths[2:], gap_s=1.0, table=module.table)
    add_recordings(module, new.table.recordings[2:])
    trainer = train(module, new, 1)
    trainer.save_checkpoint(tmp_path / "n.ckpt")
    again = Pretrainer.from_checkpoint(tmp_path / "n.ckpt").eval()
    batch = collate([new.side("test")[0]])
    assert torch.equal(again(batch).behaviour, module.eval()(batch).behaviour)
    with pytest.raises(ValueError, match=r"already has all recordings of the data \(it has 3\)"):
        identify_units(module, new)
    with pytest.raises(ValueError, match="used more than once: rec2"):
        add_recordings(module, new.table.recordings[2:])
