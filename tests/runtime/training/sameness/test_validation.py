"""Validation data that something is chosen by: other ones are refused, and none are asked for where nothing is."""

from __future__ import annotations

import copy
import json
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader, IterableDataset

from nbkit.runtime.training.loader import ResumableLoader
from nbkit.runtime.training.sameness.validation import changed_validation, validation_facts
from tests.runtime.training.sameness.changing import Changes, Data, Freedoms, called, refuse_each, scaled, take_each
from tests.runtime.training.training_support import Points, Tiny, TinyData, run_child


class Validated(Data):
    """A DataModule with any validation data."""

    def __init__(self, n: int = 12, shift: float = 0.0, points: Any = None, **loader: Any):
        super().__init__()
        self.points = points or Points(n)
        if points is None:
            self.points.x = self.points.x + shift
        self.val_dataloader = lambda: DataLoader(self.points, **{"batch_size": 4, **loader})


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(Points(8))


class WithPlateau(Tiny):
    """A schedule that goes by a metric."""

    def __init__(self, monitor: str = "val_loss"):
        super().__init__()
        self.monitor = monitor

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": self.monitor}}


def choosing(**changed: Any) -> dict[str, Any]:
    """Return options of a training whose best checkpoint its validation data choose."""
    return {"monitor": "val_loss", "data": lambda: Validated(**changed)}


def stopping(metric: str, **changed: Any) -> dict[str, Any]:
    """Return options of a training that its metric may end, and that has validated."""
    stops = EarlyStopping(metric, patience=100, check_on_train_epoch_end=metric == "loss_epoch")
    return {"callbacks": lambda: [copy.deepcopy(stops)], "data": lambda: Validated(**changed), "val_check_interval": 3}


def slowing(**changed: Any) -> dict[str, Any]:
    return {"module": WithPlateau, "data": lambda: Validated(**changed), "val_check_interval": 3}


CHANGES: Changes = {
    "the number of validation items": (choosing(), choosing(n=24), "validation.samples: 12 -> 24"),
    "the content of validation": (choosing(), choosing(shift=50.0), "validation: content of item 0[0] (float32 (4,))"),
    "the batch size of validation": (choosing(), choosing(batch_size=3), "validation.batch_size: 4 -> 3"),
    "drop_last of validation": (choosing(), choosing(drop_last=True), "validation.drop_last: False -> True"),
    "the order of validation": (
        choosing(), choosing(shuffle=True), "validation.order: 'sequential' -> 'RandomSampler'",
    ),
    "the collate function of validation": (
        choosing(), choosing(collate_fn=scaled), "validation.collate_fn default_collate -> scaled",
    ),
    "a part of the validation": (
        choosing(), {**choosing(), "val_time_share": 0.5},
        "validation.order: 'sequential' -> 'drawn, for a part of the set'",
    ),
    "validation data that may end it": (
        stopping("val_loss"), stopping("val_loss", n=24), "validation.samples: 12 -> 24",
    ),
    "validation data that a schedule goes by": (slowing(), slowing(n=24), "validation.samples: 12 -> 24"),
}  # fmt: skip
FREE: Freedoms = {
    "validation data that choose nothing": ({}, {"data": lambda: Validated(24, 50.0, batch_size=3)}),
    "validation data that a training score does not need": (stopping("loss_epoch"), stopping("loss_epoch", n=24)),
    "validation workers": (choosing(), choosing(num_workers=1, persistent_workers=True)),
    "a stream for validation": (choosing(points=Streamed()), choosing(points=Streamed())),
}


@pytest.mark.train
def test_other_data_than_those_that_something_was_chosen_by_are_refused(tmp_path):
    run_child(refuse_each, tmp_path, CHANGES)


@pytest.mark.train
def test_data_that_nothing_was_chosen_by_may_change(tmp_path):
    assert run_child(take_each, tmp_path, FREE) == list(FREE)


def best_after(root: Any, first: dict[str, Any], *then: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the monitor of the newest receipt after some sessions, and what the last one said."""
    said: list[str] = []
    for number, options in enumerate([first, *then]):
        _, said = called(root, {"max_steps": 6 + 3 * number, "val_check_interval": 3, **options}, accept_changes=True)
    newest = max(root.rglob("step-*.json"))
    return json.loads(newest.read_text())["monitor"], said


@pytest.mark.train
def test_the_best_is_chosen_anew_where_scores_are_not_comparable(tmp_path):
    easy, hard = choosing(), choosing(shift=50.0)
    kept, said = run_child(best_after, tmp_path / "a", easy, easy)
    assert not any("chosen anew" in line for line in said)
    other, said = run_child(best_after, tmp_path / "b", easy, hard)
    assert any("chosen anew" in line for line in said) and other["best"] > 10 * kept["best"]
    turned, said = run_child(best_after, tmp_path / "c", easy, {**easy, "mode": "max"})
    assert any("chosen anew" in line for line in said) and turned["mode"] == "max"
    # a session that chooses nothing in between leaves the best one to that which chose it
    between, said = run_child(best_after, tmp_path / "d", easy, {}, hard)
    assert any("chosen anew" in line for line in said) and between["best"] > 10 * kept["best"]


def facts(loaders: Any, data: Any = None) -> Any:
    trainer = SimpleNamespace(val_dataloaders=loaders, datamodule=data or TinyData())
    return json.loads(json.dumps(validation_facts(trainer, 1, lambda words: None), allow_nan=False))


def test_facts_of_any_loaders_are_the_same_for_the_same_data():
    def loaders(n: int = 12) -> Any:
        own = ResumableLoader(DataLoader(Points(n), 4, num_workers=n % 2), 1, training=False)
        stream = DataLoader(Streamed(), 4)
        return {"a": [own, DataLoader(Points(n), 2, shuffle=True)], "b": stream, "c": [1, 2]}

    first = facts(loaders())
    assert list(first) == ["validation['a'][0]", "validation['a'][1]", "validation['b']", "validation['c'][0]",
                           "validation['c'][1]"]  # fmt: skip
    assert changed_validation(first, facts(loaders())) == []
    assert changed_validation(first, facts(loaders(13))) == [
        "validation['a'][0].samples: 12 -> 13", "validation['a'][1].samples: 12 -> 13",
    ]  # fmt: skip
    assert changed_validation(first, facts(loaders()["a"][0])) == [
        f"validation data: {', '.join(first)} -> validation",
    ]
    assert facts(None) == {}


def test_what_one_side_does_not_know_is_no_change():
    whole = facts(DataLoader(Points(12), 4))
    less = {"validation": {"samples": 12}}
    assert changed_validation(whole, less) == changed_validation(less, whole) == []


def test_a_data_module_that_restores_a_state_is_asked_for_numbers_only():
    class Restoring(TinyData):
        def state_dict(self):
            return {}

    assert set(facts(DataLoader(Points(12), 4), Restoring())["validation"]) == {
        "samples", "batch_size", "drop_last", "order",
    }  # fmt: skip


def test_the_generators_of_this_process_stay_as_they_are():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    data = Points(12, augment=True)
    assert facts(DataLoader(data, 4))["validation"]["contents"]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])
