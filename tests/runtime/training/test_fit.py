"""What a user meets in fit: refusals with both values, a second call, settings that changed."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch.utils.data import DataLoader

from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.training.fit import FitReport, _say_end, fit
from tests.runtime.training.training_support import (
    FakeSession,
    Points,
    Tiny,
    TinyData,
    TinySettings,
    checkpoint_of,
    digest,
    run_child,
    train_tiny,
)


def refused(folder: Path, module=None, data=None, **options) -> str:
    def train() -> str:
        session = FakeSession(folder)
        with pytest.raises(UsageError) as error:
            fit(session, module or Tiny(), data or TinyData(), **{"max_steps": 20, **options})
        assert session.steps_done() == []
        return str(error.value)

    return run_child(train)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_epochs": 3}, "max_epochs is not an option of fit: the length of a training is max_steps"),
        ({"max_time": "1h"}, "counts this session only"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_steps": True}, "max_steps is True"),
        ({"mode": "lowest"}, "'min' and 'max'"),
        ({"devices": 0}, "a whole number from 1"),
        ({"devices": 2, "strategy": "fsdp"}, "strategy='fsdp' does not support several devices"),
        ({"num_nodes": 2}, "torchrun says how many"),
        ({"save_every": "soon"}, "'soon'"),
        ({"monitor": "val_loss"}, "this training has no validation"),
        ({"reload_dataloaders_every_n_epochs": 1}, "reloaded data"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_step(options: dict, words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path, **options)


def test_monitor_that_is_not_logged_names_what_is(tmp_path: Path) -> None:
    def train() -> str:
        with pytest.raises(UsageError) as error:
            fit(FakeSession(tmp_path), Tiny(), TinyData(validation=True), max_steps=20, monitor="val_los")
        return str(error.value)

    assert "'val_los' was not logged" in run_child(train) and "val_loss" in run_child(train)


def test_changed_settings_are_refused_with_both_values_and_accepted_on_request(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)
    words = refused(tmp_path, Tiny(TinySettings(lr=0.02)), accumulate_grad_batches=2)
    for part in ("step 10", "lr: 0.01 -> 0.02", "accumulate_grad_batches: 1 -> 2", "accept_changes=True", "fresh=True"):
        assert part in words
    run = run_child(train_tiny, tmp_path, max_steps=14, lr=0.02, accept_changes=True)
    assert run.report.resumed_from == 10 and any("lr: 0.01 -> 0.02" in line for line in run.said)


def test_another_seed_is_a_change(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)

    def train() -> str:
        with pytest.raises(UsageError) as error:
            fit(FakeSession(tmp_path, seed=1), Tiny(), TinyData(), max_steps=20)
        return str(error.value)

    assert "seed: 2025 -> 1" in run_child(train)


def test_other_data_are_refused_with_both_values(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)
    assert "samples 36 -> 40" in refused(tmp_path, data=TinyData(n=40))
    assert "batch_size 4 -> 6" in refused(tmp_path, data=TinyData(batch_size=6))


def test_another_model_is_refused_with_its_keys(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)

    class Other(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)
            self.net[0] = torch.nn.Linear(4, 8, bias=False)

    words = refused(tmp_path, Other())
    assert "missing in the checkpoint: head.weight, head.bias" in words and "not in this model: net.0.bias" in words
    wider = refused(tmp_path, Tiny(TinySettings(width=9)), accept_changes=True)
    assert "with another shape: net.0.weight" in wider and "fresh=True" in wider


def test_world_size_that_changed_is_refused(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)

    def train() -> str:
        import os

        os.environ["WORLD_SIZE"] = "2"
        with pytest.raises(UsageError) as error:
            fit(FakeSession(tmp_path), Tiny(), TinyData(), max_steps=20)
        return str(error.value)

    assert "trained by 1 process(es) and there are 2" in run_child(train)


def test_complete_training_trains_nothing_and_gives_the_weights(tmp_path: Path) -> None:
    first = run_child(train_tiny, tmp_path / "a", tmp_path / "s", max_steps=10)
    again = run_child(train_tiny, tmp_path / "wiped", tmp_path / "s", max_steps=10)
    steps = [event for event in again.events if event["e"] == "step"]
    assert again.report.complete and again.report.steps_this_session == 0 and steps == []
    assert all((first.state[name] == again.state[name]).all() for name in first.state)


def test_fresh_starts_over_and_the_old_checkpoints_stay(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path / "a", tmp_path / "s", max_steps=10)
    run = run_child(train_tiny, tmp_path / "a", tmp_path / "s", max_steps=6, lr=0.5, fresh=True)
    assert run.report.resumed_from is None and run.report.steps_this_session == 6
    # the next session goes on with the new run, on another machine, too
    assert run_child(train_tiny, tmp_path / "b", tmp_path / "s", max_steps=8, lr=0.5).report.resumed_from == 6
    stored = {path.relative_to(tmp_path / "s").as_posix() for path in (tmp_path / "s").rglob("*.ckpt")}
    assert {"tiny/checkpoints/step-000000010.ckpt", "tiny/checkpoints/run-2/step-000000008.ckpt"} <= stored


def test_all_damaged_is_an_error_and_not_step_zero(tmp_path: Path) -> None:
    """Trap 6: Lightning's ckpt_path="last" raises on a truncated file and restarts at 0 on a missing one."""
    run_child(train_tiny, tmp_path, max_steps=10)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"")

    def train() -> str:
        with pytest.raises(DamagedError) as error:
            fit(FakeSession(tmp_path), Tiny(), TinyData(), max_steps=20)
        return str(error.value)

    assert "All checkpoints of tiny are damaged" in run_child(train)


def test_receipt_says_what_the_checkpoint_is(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path / "a", tmp_path / "s", max_steps=10, validation=True, monitor="val_loss")
    receipt = json.loads((tmp_path / "s" / "tiny" / "checkpoints" / "step-000000010.json").read_text())
    assert (receipt["step"], receipt["epoch"], receipt["batch"], receipt["complete"]) == (10, 1, 1, True)
    assert receipt["settings"]["module"] == {"width": 8, "lr": 0.01, "max_steps": 40}
    assert set(receipt["versions"]) == {"torch", "lightning", "nbkit", "python"}
    checkpoint = tmp_path / "s" / "tiny" / "checkpoints" / "step-000000010.ckpt"
    assert receipt["size"] == checkpoint.stat().st_size
    assert receipt["monitor"]["name"] == "val_loss" and receipt["metrics"]["val_loss"] > 0


def test_metrics_of_all_sessions_stand_in_the_store_once(tmp_path: Path) -> None:
    options = {"max_steps": 40, "pause": 0.01, "log_every_n_steps": 1}
    for limit in (0.5, 0.5, None):
        run_child(train_tiny, tmp_path / "a", tmp_path / "s", limit=limit, **options)
    rows = [json.loads(line) for line in (tmp_path / "s" / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss_step" in row] == list(range(40))
    assert not list((tmp_path / "a").rglob("metrics-*")), "what the store has need not lie here"


def test_data_module_is_given_back_as_it_was(tmp_path: Path) -> None:
    def train() -> bool:
        data = TinyData(validation=True)
        before = dict(vars(data))
        fit(FakeSession(tmp_path), Tiny(), data, max_steps=3)
        return {k: v for k, v in vars(data).items() if k in ("train_dataloader", "val_dataloader")} == {
            "val_dataloader": before["val_dataloader"]
        } and type(data.train_dataloader()) is DataLoader

    assert run_child(train)


def test_draws_in_hooks_around_the_batch_are_derived_too(tmp_path: Path) -> None:
    """Augmentation on the device happens between loading and the step."""

    class Augmented(Tiny):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            x, y = batch
            return x + 0.1 * torch.randn_like(x), y

    def train(folder: Path, walls: list) -> str:
        for wall in walls:
            fit(FakeSession(folder, steps=wall), Augmented(), TinyData(), max_steps=30, save_every=None)
        return digest(checkpoint_of(folder))

    assert run_child(train, tmp_path / "a", [8, 11, None]) == run_child(train, tmp_path / "b", [None])


def test_torchmetrics_and_plateau_schedulers_go_on(tmp_path: Path) -> None:
    import torchmetrics

    class Measured(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.error = torchmetrics.MeanAbsoluteError()

        def training_step(self, batch, batch_idx):
            x, y = batch
            self.error(self.net(x).squeeze(-1).detach(), y)
            self.log("error", self.error, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
            scheduler = {"scheduler": plateau, "monitor": "val_loss", "interval": "step", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def train(folder: Path, walls: list) -> str:
        for wall in walls:
            fit(FakeSession(folder, steps=wall), Measured(), TinyData(validation=True), max_steps=40, save_every=None)
        return digest(checkpoint_of(folder))

    assert run_child(train, tmp_path / "a", [9, 7, 13, None]) == run_child(train, tmp_path / "b", [None])


def test_early_stopping_completes_a_training(tmp_path: Path) -> None:
    class Enough(Callback):
        def on_validation_end(self, trainer, module) -> None:
            trainer.should_stop = trainer.global_step >= 18

    def train() -> list:
        reports = []
        for steps in (60, 60, 80):
            reports.append(
                fit(FakeSession(tmp_path), Tiny(), TinyData(validation=True), max_steps=steps, callbacks=[Enough()])
            )
        return [(r.step, r.reason, r.steps_this_session) for r in reports]

    # the third asks for more than was asked for when it stopped itself
    assert run_child(train) == [(18, "complete", 18), (18, "complete", 0), (27, "complete", 9)]


def test_time_to_the_first_step_is_said_with_its_parts(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=10)
    run = run_child(train_tiny, tmp_path, max_steps=12)
    line = next(line for line in run.said if line.startswith("Resumed at step 10"))
    assert all(part in line for part in ("process began", "lightning", "state", "data", "model"))
    assert abs(sum(run.report.startup.values()) - float(re.search(r"([\d.]+) s after", line)[1])) < 0.06


def test_nothing_but_checkpoints_is_left_in_the_folder(tmp_path: Path) -> None:
    def train() -> list[str]:
        import os

        os.chdir(tmp_path)
        level = logging.getLogger("lightning.pytorch").level
        fit(FakeSession(tmp_path / "a"), Tiny(), TinyData(validation=True), max_steps=10)
        assert logging.getLogger("lightning.pytorch").level == level
        return sorted({path.relative_to(tmp_path).parts[0:2][-1] for path in tmp_path.rglob("*") if path.is_file()})

    assert run_child(train) == ["checkpoints"]


def test_plain_loader_and_max_steps_of_the_settings(tmp_path: Path) -> None:
    def train() -> tuple:
        module = Tiny(replace(TinySettings(), max_steps=7))
        report = fit(FakeSession(tmp_path), module, DataLoader(Points(36), 4, shuffle=True))
        return report.step, report.max_steps

    assert run_child(train) == (7, 7)


def test_module_may_look_at_its_own_data_module(tmp_path: Path) -> None:
    class Curious(Tiny):
        def on_train_start(self) -> None:
            assert isinstance(self.trainer.datamodule, TinyData) and isinstance(
                self.trainer.datamodule, LightningDataModule
            )
            assert self.trainer.train_dataloader.dataset is self.trainer.datamodule.train

    def train() -> bool:
        return fit(FakeSession(tmp_path), Curious(), TinyData(), max_steps=3).complete

    assert run_child(train)


def test_a_session_too_short_for_a_step_advises_a_longer_one():
    said: list[str] = []
    session = SimpleNamespace(slug="toy", say=said.append, budget=SimpleNamespace(limit=30.0))
    for reason, steps in (("wall", 0), ("wall", 2), ("SIGTERM", 0)):
        _say_end(session, FitReport(2, 9, reason, None, steps, seconds_training=1.0))
    assert ["a longer limit" in text for text in said] == [True, False, False]
    assert "No step fitted into the 30 s of this session" in said[0] and said[1].endswith("Run it again to go on.")
