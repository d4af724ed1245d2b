"""Settings of callbacks: all that Lightning's own take, and numbers of a user's; not what a training has counted."""

from __future__ import annotations

import json
from typing import Any

import lightning
import lightning.pytorch.callbacks as theirs
import pytest

from nbkit.runtime.training.sameness.callback_settings import callback_settings, changed_settings, set_again
from tests.runtime.training.exact.test_callbacks import EXACT


class Own(theirs.EarlyStopping):
    """A user's callback made from one of Lightning's."""

    def __init__(self, metric: str, factor: float = 2.0, label: str = "", **more: Any):
        super().__init__(metric, **more)
        self.factor, self.label = factor, label


class Slotted(lightning.Callback):
    """It takes what it does not keep."""

    def __init__(self, number: int):
        self._sum = number + 1


def settings(*callbacks: Any) -> Any:
    return json.loads(json.dumps(callback_settings(callbacks), allow_nan=False))


# how one is made, how another, and what differs
OTHER = {
    "patience": (lambda n: theirs.EarlyStopping("v", patience=n), "EarlyStopping.patience: 1 -> 2"),
    "min_delta": (lambda n: theirs.EarlyStopping("v", mode="max", min_delta=n), "EarlyStopping.min_delta: 1 -> 2"),
    "a threshold": (lambda n: theirs.EarlyStopping("v", stopping_threshold=n), "stopping_threshold: 1 -> 2"),
    "an epoch": (theirs.BackboneFinetuning, "BackboneFinetuning.unfreeze_backbone_at_epoch: 1 -> 2"),
    "a function": (
        lambda n: theirs.BackboneFinetuning(1, (lambda epoch: 1.5) if n == 1 else max),
        "BackboneFinetuning.lambda_func: '<lambda>' -> 'max'",
    ),
    "a schedule": (
        lambda n: theirs.GradientAccumulationScheduler({0: n}), "GradientAccumulationScheduler.scheduling.0: 1 -> 2",
    ),
    "a rhythm": (
        lambda n: theirs.EMAWeightAveraging(update_every_n_steps=n), "EMAWeightAveraging.update_every_n_steps: 1 -> 2",
    ),
    "a decay": (lambda n: theirs.EMAWeightAveraging(decay=1 / n), "EMAWeightAveraging.avg_fn.decay: 1.0 -> 0.5"),
    "a user's number": (lambda n: Own("v", n), "Own.factor: 1 -> 2"),
    "what a user passes on": (lambda n: Own("v", patience=n), "Own.patience: 1 -> 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_told_with_both_values(name):
    make, words = OTHER[name]
    found = changed_settings(settings(make(1)), settings(make(2)))
    assert len(found) == 1 and words in found[0]
    assert changed_settings(settings(make(1)), settings(make(1))) == []


@pytest.mark.parametrize("name", EXACT)
def test_a_callback_that_is_made_again_has_the_same_settings(name):
    assert changed_settings(settings(EXACT[name]()), settings(EXACT[name]())) == []


def test_what_changes_no_result_is_no_setting():
    silent, loud = Own("v", label="monday"), Own("v", label="tuesday", verbose=True, strict=False)
    assert changed_settings(settings(silent), settings(loud)) == []
    assert settings(Slotted(1)) == {"Slotted": {}}


def test_what_a_training_has_counted_in_one_process_is_no_change():
    stop = theirs.EarlyStopping("v")
    before = settings(stop)
    stop.patience = 9  # as its state from a checkpoint does
    assert settings(stop) == before


def test_two_of_one_kind_are_told_apart_and_one_that_is_new_is_no_change():
    def pair(n: int) -> list[Any]:
        return [theirs.EarlyStopping("v"), theirs.EarlyStopping("v", patience=n)]

    assert changed_settings(settings(*pair(1)), settings(*pair(2))) == ["EarlyStopping.patience: 1 -> 2"]
    assert changed_settings(settings(*pair(1)), settings(pair(1)[0])) == []


def test_only_what_has_changed_is_set_again_as_it_came():
    stop = theirs.EarlyStopping("v", patience=50, min_delta=0.5, stopping_threshold=float("inf"))
    came = [(stop, dict(vars(stop)))]
    stop.patience, stop.min_delta, stop.stopping_threshold = 7, 7.0, 7.0  # loaded
    set_again(came, ["EarlyStopping.patience: 3 -> 50", "EarlyStopping.stopping_threshold: None -> 'inf'"])
    assert (stop.patience, stop.min_delta, stop.stopping_threshold) == (50, 7.0, float("inf"))
    set_again(came, ["Other.min_delta: 1 -> 2"])
    assert stop.min_delta == 7.0
