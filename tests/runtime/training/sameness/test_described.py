"""Described values: numbers and text by their names, objects by their class, and nothing that a receipt cannot hold."""

from __future__ import annotations

import enum
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nbkit.runtime.training.same_training import differences, settings_of
from nbkit.runtime.training.sameness.described import described, hparams_of


class Kind(enum.Enum):
    SMALL = 1


@dataclass
class Sizes:
    width: int = 4
    made: Any = field(default=None, init=False)


VALUES = {
    "a number": (0.5, {"x": 0.5}),
    "a truth": (True, {"x": True}),
    "none": (None, {"x": None}),
    "text": ("adam", {"x": "adam"}),
    "infinity": (float("inf"), {"x": "inf"}),
    "a number of numpy": (np.float64(2.0), {"x": 2.0}),
    "an array": (np.array([1, 2]), {"x[0]": 1, "x[1]": 2}),
    "a large array": (np.zeros((9, 9), "float32"), {"x": "float32 (9, 9)"}),
    "a tensor": (torch.tensor([0.5]), {"x[0]": 0.5}),
    "a large tensor": (torch.zeros(9, 9), {"x": "float32 (9, 9)"}),
    "a choice": (Kind.SMALL, {"x": "SMALL"}),
    "a folder": (Path("data"), {"x": "data"}),
    "a type of numbers": (torch.float16, {"x": "torch.float16"}),
    "a class": (torch.nn.GELU, {"x": "GELU"}),
    "a function": (torch.relu, {"x": "relu"}),
    "an object": (threading.Lock(), {"x": "lock"}),
    "a module": (torch.nn.Linear(2, 2), {"x": "Linear"}),
    "a dict": ({"a": {"b": 1}}, {"x.a.b": 1}),
    "a list": ([1, (2, "c")], {"x[0]": 1, "x[1][0]": 2, "x[1][1]": "c"}),
    "a set": ({3, 1}, {"x[0]": 1, "x[1]": 3}),
    "a dataclass": (Sizes(8), {"x.width": 8}),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_described_by_rows_that_json_holds(name):
    value, rows = VALUES[name]
    assert described(value, "x") == rows
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_long_values_are_told_apart_without_their_entries_whatever_the_host():
    here, there = ([f"{root}/{n}.edf" for n in range(100)] for root in ("/here", "/there/data"))
    assert described(here, "x") == described(there, "x")
    assert described(here, "x") != described(here[1:], "x") != described([*here[1:], "/here/other.edf"], "x")
    assert described(list(range(20_000)), "x") == {"x": "20000 entries"}
    inside: list[Any] = []
    inside.append(inside)
    assert described(inside, "x") == {"x[0][0][0][0][0][0]": "list"}


def test_hparams_leave_out_the_settings_and_what_is_none():
    settings = Sizes(3)
    thing = SimpleNamespace(settings=settings, _hparams_initial={"lr": 0.1, "settings": Sizes(3)})
    assert hparams_of(thing) == {"lr": 0.1}
    assert hparams_of(SimpleNamespace(_hparams_initial={"settings": Sizes(3)})) == {"settings.width": 3}
    assert hparams_of(object()) == hparams_of(torch.nn.Linear(1, 1)) == {}


def test_settings_that_are_not_finite_can_be_in_a_receipt():
    found = settings_of(SimpleNamespace(settings=Sizes(float("inf"))), None)
    assert json.loads(json.dumps(found, allow_nan=False))["module"]["width"] == "Infinity"


@pytest.mark.parametrize("name", ["num_workers", "loader.num_workers", "net.save_every"])
def test_names_that_change_no_result_are_free_at_any_depth(name):
    assert differences({name: 1}, {name: 2}) == []
    assert differences({name + "s": 1}, {name + "s": 2}) == [f"{name}s: 1 -> 2"]
