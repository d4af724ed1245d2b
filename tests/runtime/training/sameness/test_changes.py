"""Changed under the same name: every change that a result depends on is refused with both values, or accepted."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
)
from torch.utils.data import WeightedRandomSampler, default_collate

from tests.runtime.training.sameness.changing import (
    Changes,
    Data,
    DataSettings,
    Freedoms,
    called,
    refuse_each,
    scaled,
    take_each,
)
from tests.runtime.training.training_support import Tiny, TinySettings, run_child

pytestmark = pytest.mark.train


class Bare(Tiny):
    """A module without settings."""

    def __init__(self):
        super().__init__()
        del self.settings

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Hyper(Bare):
    """A module with hyperparameters of Lightning instead of settings."""

    def __init__(self, dropout: float = 0.1, **more: Any):
        super().__init__()
        self.save_hyperparameters({"dropout": dropout, **more})


class TwoScores(Tiny):
    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val_other", -1.0)


class HyperData(Data):
    def __init__(self, cut: float = 1.0, folder: str = "/somewhere/data"):
        super().__init__()
        self.save_hyperparameters()


def again() -> Any:
    """Return another object with the same code each time, as a notebook's cell does."""
    return lambda batch: scaled(batch, 2.0)


class Counted:
    """A collate object that counts its calls in an attribute of a DataModule, which is saved with it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        return default_collate(batch)


class CountedData(Data):
    def __init__(self):
        self.collate = Counted()
        super().__init__(loader={"collate_fn": self.collate})


def collated(collate_fn: Any) -> Any:
    return lambda: Data(loader={"collate_fn": collate_fn})


class Counting(lightning.Callback):
    def state_dict(self):
        return {"n": 1}


class Printing(lightning.Callback):
    pass


class WithSGD(Tiny):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithStep(Tiny):
    def configure_optimizers(self):
        found = super().configure_optimizers()
        return {**found, "lr_scheduler": torch.optim.lr_scheduler.StepLR(found["optimizer"], 3)}


def weighted(first: float, **options: Any) -> dict[str, Any]:
    return {"shuffle": False, "sampler": WeightedRandomSampler([first] + [1.0] * 35, 36, **options)}


def early(patience: int = 100, **more: Any) -> EarlyStopping:
    return EarlyStopping("val_loss", patience=patience, **more)


class Decaying(lightning.Callback):
    """A user's own callback with state, a setting, and a count and a name that are none."""

    def __init__(self, decay: float = 0.9, batches: int = 0, name: str = ""):
        self.decay, self.batches, self.name = decay, batches, name

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]


class Watching(Tiny):
    """A schedule that goes by a metric."""

    def __init__(self, monitor: str):
        super().__init__()
        self.monitor = monitor

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": self.monitor}}


def called_back(callback: Any) -> dict[str, Any]:
    return {"callbacks": lambda: [callback()]}


def settings(**changed: Any) -> DataSettings:
    return dataclasses.replace(DataSettings(), **changed)


# what is changed: how the first session is called, how the next, and what the refusal says
CHANGES: Changes = {
    "a setting of the data": ({}, {"data": lambda: Data(settings(sfreq=250.0))}, "data.sfreq: 100.0 -> 250.0"),
    "the content": ({}, {"data": lambda: Data(shift=1.0)}, "content of item 0[0] (float32 (4,)): mean"),
    "shuffle": ({}, {"data": lambda: Data(loader={"shuffle": False})}, "order shuffled -> sequential"),
    "a sampler": ({}, {"data": lambda: Data(loader=weighted(1.0))}, "order shuffled -> weighted"),
    "weights": (
        {"data": lambda: Data(loader=weighted(1.0))}, {"data": lambda: Data(loader=weighted(9.0))},
        "weights with mean 1 and spread 0 -> with mean 1.222",
    ),
    "replacement": (
        {"data": lambda: Data(loader=weighted(1.0))}, {"data": lambda: Data(loader=weighted(1.0, replacement=False))},
        "replacement True -> False",
    ),
    "batch size": ({}, {"data": lambda: Data(loader={"batch_size": 3})}, "batch_size 4 -> 3"),
    "drop_last": ({}, {"data": lambda: Data(loader={"drop_last": True})}, "drop_last False -> True"),
    "the collate function": ({}, {"data": collated(scaled)}, "collate_fn default_collate -> scaled"),
    "an argument of the collate function": (
        {"data": collated(partial(scaled, by=2.0))}, {"data": collated(partial(scaled, by=3.0))},
        "collate_fn scaled with by: 2.0 -> 3.0",
    ),
    "val_check_interval": ({}, {"val_check_interval": 3}, "val_check_interval: None -> 3"),
    "check_val_every_n_epoch": ({}, {"check_val_every_n_epoch": 2}, "check_val_every_n_epoch: 1 -> 2"),
    "limit_train_batches": ({}, {"limit_train_batches": 5}, "limit_train_batches: 1.0 -> 5"),
    "limit_val_batches": ({}, {"limit_val_batches": 1}, "limit_val_batches: 1.0 -> 1"),
    "clip": ({}, {"gradient_clip_val": 1.0}, "gradient_clip_val: None -> 1.0"),
    "clip algorithm": (
        {"gradient_clip_val": 1.0}, {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
        "gradient_clip_algorithm: 'norm' -> 'value'",
    ),
    "accumulation": ({}, {"accumulate_grad_batches": 2}, "accumulate_grad_batches: 1 -> 2"),
    "precision": ({"precision": "32-true"}, {"precision": "bf16-mixed"}, "precision: '32-true' -> 'bf16-mixed'"),
    "a callback left out": ({"callbacks": lambda: [early()]}, {}, "callbacks: [\"EarlyStopping{'monitor': 'val_loss'"),
    "a callback with state added": ({}, {"callbacks": lambda: [Counting()]}, "callbacks: [] -> ['Counting']"),
    "a callback that changes the training": (
        {}, {"callbacks": lambda: [GradientAccumulationScheduler({0: 1})]},
        "callbacks: [] -> ['GradientAccumulationScheduler']",
    ),
    "the patience of a callback": (
        called_back(early), called_back(partial(early, 50)), "EarlyStopping.patience: 100 -> 50",
    ),
    "another setting of a callback": (
        called_back(early), called_back(partial(early, min_delta=0.5)), "EarlyStopping.min_delta: ",
    ),
    "an accumulation by epoch": (
        called_back(lambda: GradientAccumulationScheduler({0: 1})),
        called_back(lambda: GradientAccumulationScheduler({0: 1, 1: 4})),
        "GradientAccumulationScheduler.scheduling.1: None -> 4",
    ),
    "the decay of an average": (
        called_back(lambda: EMAWeightAveraging(decay=0.9)), called_back(lambda: EMAWeightAveraging(decay=0.5)),
        "EMAWeightAveraging.avg_fn.decay: 0.9 -> 0.5",
    ),
    "a setting of a user's callback": (
        called_back(Decaying), called_back(partial(Decaying, 0.5)), "Decaying.decay: 0.9 -> 0.5",
    ),
    "what a schedule goes by": (
        {"module": lambda: Watching("val_loss")}, {"module": lambda: Watching("loss_epoch")},
        "scheduler_monitors: ['val_loss'] -> ['loss_epoch']",
    ),
    "the optimizer": (
        {"module": lambda: Tiny()}, {"module": lambda: WithSGD()}, "optimizers: ['AdamW'] -> ['SGD']",
    ),
    "the scheduler": (
        {}, {"module": lambda: WithStep()},
        "schedulers: ['CosineAnnealingWarmRestarts each 1 step'] -> ['StepLR each 1 epoch']",
    ),
    "hyperparameters of the module": (
        {"module": lambda: Hyper(0.1)}, {"module": lambda: Hyper(0.9)}, "module.hparams.dropout: 0.1 -> 0.9",
    ),
    "hyperparameters inside of others": (
        {"module": lambda: Hyper(net={"widths": [4, 8]})}, {"module": lambda: Hyper(net={"widths": [4, 16]})},
        "module.hparams.net.widths[1]: 8 -> 16",
    ),
    "hyperparameters of the data": (
        {"data": lambda: HyperData(1.0)}, {"data": lambda: HyperData(2.0)}, "data.hparams.cut: 1.0 -> 2.0",
    ),
    "the mode of the monitor": (
        {"monitor": "val_loss"}, {"monitor": "val_loss", "mode": "max"}, "mode: 'min' -> 'max'",
    ),
    "the monitor": (
        {"monitor": "val_loss"}, {"monitor": "val_other", "module": lambda: TwoScores()},
        "monitor: 'val_loss' -> 'val_other'",
    ),
}  # fmt: skip
UNFIT = ("the optimizer", "the scheduler")  # the state of one class means nothing to another: never accepted
# what may change: how the first session is called, if not as usual, and how the next
FREE: Freedoms = {
    "workers": {"data": lambda: Data(loader={"num_workers": 1, "persistent_workers": True})},
    "the setting of workers": {"data": lambda: Data(settings(num_workers=4))},
    "the folder": {"data": lambda: Data(settings(folder="/elsewhere"))},
    "pinned memory": {"data": lambda: Data(loader={"pin_memory": False, "timeout": 0})},
    "save_every": {"save_every": "1h", "save_each_epoch": True},
    "log_every_n_steps": {"log_every_n_steps": 3},
    "callbacks without state": {"callbacks": lambda: [Printing(), LearningRateMonitor()]},
    "what callbacks print": (called_back(early), called_back(partial(early, verbose=True, strict=False))),
    "the name of a user's callback": (called_back(Decaying), called_back(partial(Decaying, name="now"))),
    "loggers": {"loggers": lambda: [lightning.pytorch.loggers.CSVLogger("logs")]},
    "more steps": {"module": lambda: Tiny(TinySettings(max_steps=80))},
    "more steps under any name": {"data": lambda: Data(settings(steps=9)), "max_steps": 9},
    "deterministic": {"deterministic": True},
    "hyperparameters that change no result": (
        {"module": lambda: Hyper(steps=6, data={"num_workers": 2, "folder": "/here/data"}, path="/here/a")},
        {"module": lambda: Hyper(steps=9, data={"num_workers": 0, "folder": "/there/data"}, path="C:\\there\\a")},
    ),
    "hyperparameters that are not saved any more": ({"module": lambda: Hyper()}, {"module": lambda: Bare()}),
    "hyperparameters that were not saved": ({"module": lambda: Bare()}, {"module": lambda: Hyper()}),
    "the folder of data with hyperparameters": (
        {"data": lambda: HyperData(folder="/here")}, {"data": lambda: HyperData(folder="/there")},
    ),
    "a collate function written again": ({"data": collated(again())}, {"data": collated(again())}),
    "a collate object that counts": ({"data": CountedData}, {"data": CountedData}),
    "a monitor added": ({}, {"monitor": "val_loss", "mode": "max"}),
    "a monitor left out": ({"monitor": "val_loss"}, {"mode": "max"}),
}  # fmt: skip


def test_every_change_is_refused_with_both_values_before_a_step_and_accepted_on_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_child(refuse_each, tmp_path, CHANGES, UNFIT)


def test_what_changes_no_result_may_change_freely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_child(take_each, tmp_path, FREE) == list(FREE)


def patience_after(root: Any) -> list[int]:
    """Return the patience of a callback before and after sessions that accept another one, and one without a change."""
    stops = [early(patience) for patience in (100, 50, 50)]
    for number, stop in enumerate(stops):
        called(root, {"callbacks": [stop], "max_steps": 6 + 3 * number}, accept_changes=number == 1)
    called(root, {"callbacks": [stops[-1]], "max_steps": 15})  # once more in one process, as a cell that is run again
    return [stop.patience for stop in stops]


def test_an_accepted_setting_of_a_callback_holds_instead_of_the_one_in_its_state(tmp_path):
    assert run_child(patience_after, tmp_path) == [100, 50, 50]


def of_an_earlier_version(root: Any) -> int | None:
    """Resume from a checkpoint whose receipt and loader name only what version 0.1 recorded."""
    import json

    from nbkit.ground.files import sha256_of
    from nbkit.runtime.ledger.receipts import _checksum

    called(root, {})
    for path in root.rglob("step-*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for state in _loaders(checkpoint):
            for name in ("order", "drop_last", "contents", "weights", "collate_fn"):
                state.pop(name, None)
        torch.save(checkpoint, path)
        receipt = path.with_suffix(".json")
        body = json.loads(receipt.read_text())
        body["training"] = {
            name: body["training"][name] for name in ("seed", "accumulate_grad_batches", "gradient_clip_val")
        }
        for name in ("data", "module_hparams", "data_hparams"):
            body["settings"].pop(name)
        body |= {"size": path.stat().st_size, "sha256": sha256_of(path)}
        body.pop("receipt_sha256")
        receipt.write_text(json.dumps(body | {"receipt_sha256": _checksum(body)}))
    report, _ = called(root, {"max_steps": 9, "data": lambda: Data(settings(sfreq=1.0)), "val_check_interval": 3})
    return report.resumed_from


def _loaders(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        own = [value] if {"samples", "batch_size", "epoch"} <= set(value) else []
        return own + [one for part in value.values() for one in _loaders(part)]
    return [one for part in value for one in _loaders(part)] if isinstance(value, list | tuple) else []


def test_a_receipt_of_an_earlier_version_still_resumes(tmp_path):
    assert run_child(of_an_earlier_version, tmp_path) == 6
