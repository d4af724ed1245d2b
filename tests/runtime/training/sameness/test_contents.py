"""Drawn contents of datasets: the same for the same data, another for other data, and nothing here is disturbed."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch.utils.data import Dataset, Subset, TensorDataset

from nbkit.runtime.training.sameness.contents import _add, different, draw_contents, numbers_of, same_numbers
from tests.runtime.training.training_support import Points

ENOUGH = "nbkit.runtime.training.sameness.contents._ENOUGH_S"


@pytest.fixture(autouse=True)
def time_does_not_count(monkeypatch):
    monkeypatch.setattr(ENOUGH, 60.0)


@dataclass
class Window:
    signal: np.ndarray
    subject: str


class Items(Dataset):
    """Items of any make."""

    def __init__(self, make, n=5):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.make(index)


MAKES = {
    "tensor": lambda i: torch.full((3,), float(i)),
    "half": lambda i: torch.full((3,), float(i), dtype=torch.bfloat16),
    "array and label": lambda i: (np.arange(4.0) + i, i),
    "a dict": lambda i: {"x": torch.ones(2) * i, "name": f"s{i}", "ids": np.arange(3) + i},
    "a dataclass": lambda i: Window(np.ones(3) * i, f"s{i}"),
    "nested": lambda i: [{"a": (torch.ones(1), b"x")}, i, 0.5 * i, None],
    "complex": lambda i: np.ones(2) * (1 + 2j) * i,
    "scalar": lambda i: np.float32(i),
    "something else": lambda i: object(),
    "empty": lambda i: torch.zeros(0),
}


@pytest.mark.parametrize("name", MAKES)
def test_the_same_items_are_the_same_and_others_are_told_with_both_values(name):
    make = MAKES[name]
    first, why = draw_contents(Items(make), seed=1)
    assert why == "" and {"0", "2", "4"} <= set(first)
    assert different(first, draw_contents(Items(make), seed=1)[0]) == []
    moved, _ = draw_contents(Items(lambda i: make(i + 1)), seed=1)
    if name not in ("something else", "empty"):
        assert any(" -> " in words and "item 0" in words for words in different(first, moved))
    reshaped, _ = draw_contents(Items(lambda i: (make(i), 3)), seed=1)
    assert different(first, reshaped)[0].startswith("item 0: ")


@pytest.mark.parametrize("augment", [False, True])
def test_augmentation_makes_no_difference_and_the_generators_here_stay(augment):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first, why = draw_contents(Points(12, augment), seed=3)
    random.random()
    second, _ = draw_contents(Points(12, augment), seed=3)
    random.setstate(before[0])
    assert not why and different(first, second) == []
    assert np.random.get_state()[1].tolist() == before[1] and torch.equal(torch.get_rng_state(), before[2])


def test_a_dataset_is_not_touched_by_the_drawing():
    class Counting(Points):
        read = 0

        def __getitem__(self, index):
            self.read += 1
            Counting.read += 1
            return super().__getitem__(index)

    data = Counting(12)
    assert draw_contents(data, seed=1)[0] and data.read == 0


def test_what_cannot_be_compared_is_told_and_never_takes_long(tmp_path, monkeypatch):
    limit = "nbkit.runtime.training.sameness.contents._LONGEST_S"
    cases = {
        "session.prove(module, data)": Items(lambda i: time.perf_counter_ns()),
        "takes more than 0.3 s": Items(lambda i: time.sleep(9)),
        "raised KeyError": Items(lambda i: {}[i]),
        "could not be fetched in a process of its own": Items(lambda i: os._exit(3)),
        "raised TypeError": iter([]),
    }
    for words, data in cases.items():
        began = time.monotonic()
        with monkeypatch.context() as patch:
            if "0.3 s" in words:  # the others are not late, however busy the machine is
                patch.setattr(limit, 0.3)
            sketch, why = draw_contents(data, seed=1)
        assert sketch == {} and words in why, words
        assert "0.3 s" not in words or time.monotonic() - began < 5
    assert draw_contents(Items(MAKES["tensor"], n=0), seed=1) == ({}, "")


def test_a_slow_dataset_is_drawn_less_and_compared_by_what_both_have(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ENOUGH, 0.0)
        slow, why = draw_contents(Items(lambda i: torch.ones(2) * i), seed=1)
    quick, _ = draw_contents(Items(lambda i: torch.ones(2) * i), seed=1)
    assert not why and len(slow) == 1 < len(quick) and different(quick, slow) == different(slow, quick) == []


@given(arrays(np.float32, array_shapes(max_dims=2, max_side=50), elements=st.floats(-100, 100, width=32)))
@settings(max_examples=60)
def test_last_digits_make_no_difference_but_a_changed_part_does(array):
    rows, near, far = [], [], []
    _add(rows, "", array)
    _add(near, "", array * np.float32(1 + 1e-6))
    assert different({"0": rows}, {"0": near}) == []
    shifted = array + 0.1 * (1 + abs(array).max())
    _add(far, "", shifted)
    assert different({"0": rows}, {"0": far})


def test_numbers_that_are_missing_count():
    assert not same_numbers([0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 5.0])


@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_can_be_in_a_receipt_whatever_the_array():
    largest = np.array([1e308, 1e308, -1e308, np.inf, np.nan])
    assert np.isfinite(numbers_of(largest)).all() and np.isfinite(numbers_of(np.zeros(0))).all()


def test_a_change_in_one_drawn_item_of_real_kinds_of_datasets_is_seen():
    x = torch.randn(20, 8)
    other = x.clone()
    other[0, 3] += 1.0
    for wrap in (TensorDataset, lambda t: Subset(TensorDataset(t), range(10))):
        first, second = draw_contents(wrap(x), 1)[0], draw_contents(wrap(other), 1)[0]
        assert len(different(first, second)) == 1 and "content of item 0" in different(first, second)[0]


def test_a_generator_that_a_dataset_holds_makes_no_difference():
    class Own(Items):
        def __init__(self):
            super().__init__(lambda i: torch.ones(3) * i + float(self.rng.normal()))
            self.rng = np.random.default_rng()

    first, why = draw_contents(Own(), seed=1)
    assert not why and different(first, draw_contents(Own(), seed=1)[0]) == []


def test_a_dataset_that_its_training_has_changed_is_what_it_came_as():
    """A cell that is run again in one kernel has the same object."""
    data = Points(12)
    first, _ = draw_contents(data, seed=1)
    data.x = data.x + 1.0
    assert draw_contents(data, seed=1) == (first, "")
    assert different(first, draw_contents(data, seed=2)[0]) != []  # another training
