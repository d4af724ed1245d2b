"""LaBraM's trainings over several montages of one store: all windows, pure batches, exact resume."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.labram.channels import misfit
from nbkit.neuro.labram.codebook import Codebook, code_use, reconstructions
from nbkit.neuro.labram.pretrain import MaskedEEG
from nbkit.neuro.signals.windows.montage_data import MontageData, collate_montage
from nbkit.neuro.signals.windows.shard_writing import write_signal
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.runtime.training.fit import fit
from tests.neuro.labram import test_codebook, test_pretrain
from tests.runtime.training.training_support import Child, FakeSession, StopAt, checkpoint_of, digest

SMALL, WIDE = ("C3", "Cz", "C4"), ("Fp1", "Fz", "Cz", "Pz", "O2")
STEPS = 17  # of about 9 an epoch


def write(folder, names, people, windows=6, sfreq=20.0, data="real"):
    for person in people:
        rng = np.random.default_rng([person, len(names)])
        starts = np.arange(windows) * 40
        facts = dict(sfreq=sfreq, ch_names=names, subject=f"P{person}", data=data)
        signals = rng.normal(size=(len(names), windows * 40)) * 20
        cuts = {"windows": (starts, 40, {"start_s": starts / sfreq})}
        write_signal(folder / f"{len(names)}-{sfreq:g}-{person}", signals, cuts=cuts, **facts)
    return folder


@pytest.fixture
def two(tmp_path):
    """A store of eight people with five channels and four with three; P2 and P3 have both."""
    write(tmp_path / "items", WIDE, range(8))
    return write(tmp_path / "items", SMALL, range(2, 6))


def data_of(folder, **options):
    return MontageData(folder, 7, purpose="pretrain", misfit=misfit, fractions=(0.8, 0.2), **options)


def codebook(data):
    lightning.seed_everything(1, verbose=False)
    return Codebook.for_data(replace(test_codebook.TINY, codebook_size=20, restart_below=0.5, steps=STEPS), data)


def pretrain(data):
    lightning.seed_everything(1, verbose=False)
    return MaskedEEG(replace(test_pretrain.TINY, steps=STEPS), codebook(data).tokenizer, data.ch_names, data.sfreq)


class Seen(lightning.Callback):
    """Count the windows of every training batch."""

    def __init__(self):
        self.windows: Counter = Counter()
        self.shapes: Counter = Counter()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert batch["rows"].shape == (batch["window"].shape[1],) and "ch_names" not in batch
        self.shapes[tuple(batch["window"].shape[1:])] += 1
        self.windows.update(window.numpy().tobytes() for window in batch["window"])


@pytest.mark.parametrize("make", [codebook, pretrain])
def test_every_window_of_both_is_trained_on_once_an_epoch(make, two, tmp_path):
    data, seen = data_of(two), Seen()
    epoch = len(data.train_dataloader())
    report = fit(
        FakeSession(tmp_path / "run"), make(data), data, max_steps=epoch, val_check_interval=epoch, callbacks=[seen]
    )
    there = Counter(data.train_dataset[i]["window"].numpy().tobytes() for i in range(len(data.train_dataset)))
    assert report.complete and seen.windows == there and set(there.values()) == {1}
    assert set(seen.shapes) == {(5, 40), (3, 40)} and sum(seen.shapes.values()) == epoch
    assert np.isfinite([value for row in report.history for value in row.values()]).all()


@pytest.mark.parametrize("make", [codebook, pretrain])
def test_a_store_of_one_montage_trains_as_without_montages(make, tmp_path):
    items = write(tmp_path / "items", WIDE, range(6))
    split = dict(columns=(), purpose="pretrain", split="auto", fractions=(0.8, 0.2, 0.0))

    def session(name, data, stop=None):
        made = FakeSession(tmp_path / name)
        return fit(
            made, make(data), data, max_steps=8, val_check_interval=4, callbacks=[StopAt(made, stop)] if stop else []
        )

    assert session("before", WindowData(items, 7, **split)).complete
    assert session("halves", WindowData(items, 7, **split), stop=3).step == 3
    assert session("halves", data_of(items)).resumed_from == 3  # an older training goes on
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "before"))


@pytest.mark.parametrize(("make", "step"), [(codebook, 14), (pretrain, 5)])  # in the second epoch, and in the first
def test_a_training_killed_in_an_epoch_ends_in_the_same_bits(make, step, two, tmp_path):
    def session(name, killed_at=None):
        class Kill(lightning.Callback):
            def on_train_batch_end(self, trainer, *_):
                if trainer.global_step == killed_at:
                    until = time.monotonic() + 30  # a thread writes the checkpoints
                    while not list((made.folder / "checkpoints").glob("step-*.json")) and time.monotonic() < until:
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGKILL)

        made, data = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store"), data_of(two)
        assert killed_at is None or killed_at % len(data.train_dataloader())
        kill = [Kill()] if killed_at else []
        return fit(made, make(data), data, max_steps=STEPS, val_check_interval=6, save_every=0.0001, callbacks=kill)

    assert session("whole").complete
    assert Child(session, "killed", step).end().signal == signal.SIGKILL
    rest = session("killed")
    assert rest.complete and 0 < rest.resumed_from < STEPS
    assert digest(checkpoint_of(tmp_path / "killed")) == digest(checkpoint_of(tmp_path / "whole"))


def test_a_batch_of_each_montage_gives_what_its_windows_alone_give(two):
    data = data_of(two)
    module = pretrain(data).eval()
    shapes = set()
    for batch in data.val_dataloader():
        shapes.add(batch["window"].shape[1])
        assert len(batch["ch_names"]) == batch["window"].shape[1]
        moved = module.on_before_batch_transfer(batch, 0)
        alone = MaskedEEG(module.settings, module.tokenizer, batch["ch_names"], 20.0).eval()
        alone.load_state_dict(module.state_dict())
        assert torch.equal(module.labels(batch["window"], moved["rows"]), alone.labels(batch["window"]))
        torch.manual_seed(3)
        guess = module(batch["window"], moved["rows"])
        torch.manual_seed(3)
        torch.testing.assert_close(guess.logits, alone(batch["window"]).logits)
    book = codebook(data).eval()
    assert int(code_use(book, data.val_dataloader()).sum()) == sum(
        data.val_dataset[i]["window"].shape[0] * 2 for i in range(len(data.val_dataset))
    )
    small = data.val_dataset[len(data.val_dataset) - 1]
    alone, own = reconstructions(book, small["window"], small["ch_names"])
    assert alone.shape == own.shape == tuple(small["window"].shape) and shapes == {3, 5}


def test_one_assignment_of_people_for_both_montages(two):
    data = data_of(two)
    train, val = set(data.train_dataset.subjects), set(data.val_dataset.subjects)
    assert not train & val and len(train | val) == 8
    lines = data.about_montages()
    assert len(lines) == 2 and lines[0].startswith("5 channels (Fp1, Fz, Cz, Pz ... O2) x 40 samples at 20 Hz, 48")
    assert sum(int(line.rsplit(": ", 1)[1].split()[0]) for line in lines) == len(data.train_dataset)


def test_a_montage_without_a_person_in_training_is_said(two):
    write(two, ("F3", "F4"), [77])
    said = {}
    for seed in range(12):
        lines = []
        data = data_of(two, seed=seed, say=lines.append)
        said[seed] = (data.about_montages()[2], lines)
    assert any(line.endswith("6 for training, 0 for validation") and not lines for line, lines in said.values())
    assert any("0 for training" in line and "Not trained on: 2 channels" in lines[0] for line, lines in said.values())


def test_montages_that_do_not_fit_are_named(two):
    write(two, ("E1", "E7"), [9])
    write(two, SMALL, [9], sfreq=40.0)
    said = []
    data = data_of(two, say=said.append)
    assert len(data.montages) == 2 and len(said) == 2
    assert any("2 channels (E1, E7)" in line and "not in the table of channels ten_twenty" in line for line in said)
    assert any("its sampling rate is 40 Hz, that of the others 20 Hz" in line for line in said)


def test_stand_in_data_of_one_montage_are_said(two):
    write(two, ("F3", "F4"), range(20, 40), data="synthetic")
    assert set(data_of(two).describe().split("; ")) == {"synthetic", "real"}


def test_mixed_batches_are_refused(two):
    data = data_of(two).train_dataset
    with pytest.raises(ValueError, match=r"2 montages \("):
        collate_montage([data[0], data[len(data) - 1]])
