"""Pretraining: what is asked, what is scored, what teaches nothing, what a checkpoint holds."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.neurofm.data.batches import SpikeData, collate
from nbkit.neuro.neurofm.pretrain import Pretrainer, laid_over, rotating_mask, score_rows
from tests.neuro.neurofm.spike_files import TINY, train, write_populations

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spikes")
    return SpikeData(write_populations(folder, units=(40, 30), seconds=60.0), gap_s=1.0)


def made(data, **changes) -> Pretrainer:
    lightning.seed_everything(1, verbose=False)
    return Pretrainer.for_data(replace(TINY, **changes), data)


@pytest.fixture(scope="module")
def trained(data):
    module = made(data, steps=150)
    return module, train(module, data, 150)


def test_it_learns_both_spikes_and_behaviour(trained):
    logged = {name: float(value) for name, value in trained[1].callback_metrics.items()}
    assert logged["val_bits_per_spike"] > 0.05 and logged["val_r2"] > 0.6
    assert logged["val_count_mse"] < logged["val_count_mse_mean_rate"]
    rows = {row["name"]: row for row in score_rows([{**logged, "step": 150}])}
    assert rows["val_count_mse"]["baseline"] == logged["val_count_mse_mean_rate"]
    assert score_rows([{"step": 3, "train_loss": 1.0}]) == []


def test_scores_are_those_of_numpy(trained, data):
    module = trained[0].eval()
    batches = [collate([data.side("val")[i] for i in rows]) for rows in (range(3), range(3, 8))]
    with torch.no_grad():
        got = module.scores(sum(module.sums(batch, turn) for turn, batch in enumerate(batches)))
        truth, decoded, gain, spikes = [], [], 0.0, 0.0
        for turn, batch in enumerate(batches):
            hidden = rotating_mask(batch["slot"], batch["present"], TINY.mask_ratio, turn)
            answer = module(batch, hidden)
            truth.append(module.model.standardised(batch["behaviour"], batch["task"]).reshape(-1, 2))
            decoded.append(answer.behaviour.reshape(-1, 2))
            for row in range(len(batch["counts"])):
                units = hidden[row]
                counts, rate = batch["counts"][row][:, units], answer.log_counts[row][:, units].exp()
                known = module.table.recordings[batch["recording"][row]].mean_counts
                mean = torch.tensor(known)[batch["slot"][row][units]]
                gain += (counts * (rate / mean).log() - rate + mean).sum().item()
                spikes += counts.sum().item()
        truth, decoded = torch.cat(truth).numpy(), torch.cat(decoded).numpy()
    assert float(got["bits_per_spike"]) == pytest.approx(gain / spikes / np.log(2), rel=1e-4)
    r2 = 1 - ((truth - decoded) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()
    assert float(got["r2"]) == pytest.approx(r2, rel=1e-4)


def test_each_unit_is_hidden_once_in_all_turns():
    slot, present = torch.arange(20).repeat(2, 1), torch.arange(20) < torch.tensor([[20], [13]])
    turns = torch.stack([rotating_mask(slot, present, 0.15, turn) for turn in range(7)])
    assert torch.equal(turns.sum(dim=0), present.long())


def test_the_masked_loss_is_over_hidden_units_alone(data):
    module = made(data)
    batch = collate([data.side("train")[0], data.side("train")[-1]])
    hidden = rotating_mask(batch["slot"], batch["present"], 0.15, 0)
    module.losses(batch, hidden, torch.ones(2))["masked"].backward()
    grads = [page.log_rate.grad for page in module.model.book.pages]
    touched = [(grad != 0).nonzero().flatten().tolist() for grad in grads]
    assert touched == [[0, 7, 14, 21, 28, 35], [0, 7, 14, 21, 28]]


def test_a_recording_that_is_not_in_yet_teaches_nothing(data):
    module = made(data)
    batch = collate([data.side("train")[i] for i in (0, 1, -2, -3)])
    hidden = rotating_mask(batch["slot"], batch["present"], 0.15, 0)
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0])
    module.total(module.losses(batch, hidden, weight)).backward()
    first, second = module.model.book.pages
    assert first.unit_embed.grad.abs().sum() > 0 == second.unit_embed.grad.abs().sum()
    assert second.log_rate.grad.abs().sum() == 0


def test_a_checkpoint_gives_the_module_back(trained, data, tmp_path):
    module, trainer = trained
    trainer.save_checkpoint(tmp_path / "n.ckpt")
    torch.load(tmp_path / "n.ckpt", weights_only=True)
    again = Pretrainer.from_checkpoint(tmp_path / "n.ckpt").eval()
    assert again.settings == module.settings and again.table.recordings == module.table.recordings
    batch = collate([data.side("val")[0]])
    assert torch.equal(again(batch).behaviour, module.eval()(batch).behaviour)


def test_another_training_is_refused(trained, tmp_path_factory, data):
    checkpoint = {}
    trained[0].on_save_checkpoint(checkpoint)
    other = SpikeData(write_populations(tmp_path_factory.mktemp("o"), units=(4, 4, 4)), gap_s=1.0)
    with pytest.raises(ValueError, match="trained on 2 recordings .* this model is for 3"):
        Pretrainer.for_data(TINY, other).on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="20 bins of 0.02 s, the settings 50 bins"):
        Pretrainer.for_data(replace(TINY, n_bins=50), data)


def test_steps_are_counted_from_epochs_and_accumulation(data):
    settings = laid_over(replace(TINY, steps=0, epochs=3, accumulate=2, patience_steps=0, patience_epochs=2), data)
    batches = len(data.train_dataloader())
    assert settings.steps == 3 * -(-batches // 2) and settings.patience_steps == 2 * -(-batches // 2)
