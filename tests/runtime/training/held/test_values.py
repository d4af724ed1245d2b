"""Every plain value survives a checkpoint that loads with ``weights_only=True``, bit for bit."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch

from nbkit.runtime.training.held.values import NotPlain, can_be_made, digest, form_of, value_of
from nbkit.runtime.training.snapshot import Buffers


@dataclasses.dataclass
class Point:
    x: int = 1
    further: Any = None


class Side(enum.Enum):
    LEFT = 1


Pair = collections.namedtuple("Pair", "x y")


class OwnRandom(random.Random):
    """A generator of a class that a checkpoint cannot make."""


class AttributeDict(dict):
    """A dict of a class that a checkpoint cannot make."""


FIXED: list[Any] = [
    *(1, 2**100, -1.5, -0.0, float("nan"), "text", None, True, b"bytes", 1j, range(3), frozenset([1]), Side.LEFT),
    *(torch.float16, torch.Size([1, 2]), np.float32(3), np.datetime64("2020-01-01"), Pair(1, [2]), (1, [2, {3}])),
    *(pathlib.Path("a/b"), decimal.Decimal("0.10"), fractions.Fraction(1, 3), datetime.timedelta(1, 2, 3)),
    *(datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1)),
]
CHANGEABLE: list[Any] = [
    *([1, [2]], {1, 2}, {1: 2, (1, 2): "x"}, bytearray(b"x"), collections.deque([1, 2], 3), Point(2, [1])),
    *(collections.Counter("aab"), collections.OrderedDict(a=1, b=2), collections.defaultdict(list, {1: [2]})),
    *(np.arange(6).reshape(2, 3).T, np.array(["ab", "c"]), np.zeros((0, 3)), np.array(3.0)),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    *(torch.arange(3.0), torch.tensor(2, dtype=torch.bfloat16), torch.tensor([1 + 2j]), torch.empty(0)),
    *(np.random.default_rng(3), np.random.Generator(np.random.MT19937(1)), np.random.RandomState(1), random.Random(3)),
    *(array.array("d", [1.5, -0.0]), np.array([1, None, "x"], dtype=object), np.array([[1.5], [[2]]], dtype=object)),
    *(np.ma.array([1.0, 2.0], mask=[False, True]), np.ma.array([1, 2], fill_value=7, hard_mask=True)),
    *(np.random.PCG64(3), np.random.MT19937(3), np.random.SeedSequence(3, n_children_spawned=2), OwnRandom(3)),
    *(np.random.Generator(np.random.Philox(4)), torch.Generator().manual_seed(1), AttributeDict(a=1)),
]


def stored(form: Any) -> Any:
    """Return a form as it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(Buffers().copy(form), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _name(value: Any) -> str:
    return f"{type(value).__name__}: {str(value)[:20]}"


@pytest.mark.parametrize("value", [*FIXED, *CHANGEABLE], ids=_name)
def test_a_value_comes_back_bit_for_bit(value: Any) -> None:
    form = form_of(value)
    if not can_be_made(form):
        assert isinstance(value, AttributeDict | OwnRandom)
        return
    back = value_of(stored(form))
    assert type(back) is type(value) or isinstance(value, pathlib.Path)
    assert digest(form_of(back)) == digest(form)


@pytest.mark.parametrize("value", CHANGEABLE, ids=_name)
def test_what_can_be_changed_is_changed_in_place(value: Any) -> None:
    form = form_of(value)
    back = value_of(stored(form), value)
    assert back is value and digest(form_of(back)) == digest(form)


def test_generators_that_have_spawned_go_on_with_the_next_ones() -> None:
    for make in (lambda: np.random.default_rng(3), lambda: np.random.SeedSequence(3)):
        one, other = make(), make()
        one.spawn(4)
        value_of(stored(form_of(one)), other)
        a, b = (np.random.default_rng(next(iter(thing.spawn(1)))).random() for thing in (one, other))
        assert a == b


def test_one_bit_makes_another_digest() -> None:
    for a, b in [(0.0, -0.0), (1, 1.0), (1, True), ([1], (1,)), ({1: 2}, {1: 3}), (np.zeros(2), np.zeros((2, 1)))]:
        assert digest(form_of(a)) != digest(form_of(b))
    array = np.zeros(3, dtype=np.float32)
    before = digest(form_of(array))
    array.view(np.uint8)[5] ^= 1
    assert digest(form_of(array)) != before


@pytest.mark.parametrize("value", [threading.Lock(), object(), [object()], np.array([object()]), random.SystemRandom()])
def test_anything_else_is_not_plain(value: Any) -> None:
    with pytest.raises(NotPlain):
        form_of(value)


def test_a_list_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotPlain):
        form_of(endless)


def test_nothing_is_made_of_a_class_that_is_not_plain() -> None:
    """A checkpoint may come from anybody: a name in it leads to no other class and imports nothing."""
    for name in ("subprocess:Popen", "os:system", "antigravity:fly"):
        assert not can_be_made(["dataclass", name])
