"""Kinds of state that an object may hold, each with a draw that changes it and gives a number."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


@dataclasses.dataclass
class Count:
    n: int = 0
    seen: list[int] = dataclasses.field(default_factory=list)


class Meter:
    """A plain object, with an object of its own."""

    def __init__(self) -> None:
        self.total, self.inner = 0.0, Count()

    def draw(self) -> float:
        self.total += 0.25
        self.inner.n += 1
        self.inner.seen.append(self.inner.n)
        return self.total + self.inner.n + len(self.inner.seen)


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Stateful:
    """Gives and takes its state, and keeps what a checkpoint could not hold."""

    def __init__(self) -> None:
        self.n, self.handle = 0, object()

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["count"]


class OwnRandom(random.Random):
    """Another class of generators."""


class OfTheClass:
    """State of a class, not of an object."""

    drawn = 0
    generator = np.random.default_rng(5)


_GLOBAL = np.random.default_rng(7)


def _from_global(h: Any) -> float:
    return _GLOBAL.random()


def _with_closure() -> Callable[[], float]:
    generator = random.Random(8)
    return lambda: generator.random()


def _spawned(h: Any) -> float:
    return h.spawns.spawn(1)[0].random() + np.random.default_rng(h.seeds.spawn(1)[0]).random()


def _exact_sums(h: Any) -> float:
    h.decimal += decimal.Decimal("0.1")
    h.elapsed += datetime.timedelta(seconds=0.1)
    h.array_of_python[0] += 0.1
    h.of_objects[0] += 0.1
    h.masked[0] += 0.1
    return float(h.decimal) + h.elapsed.total_seconds() + h.array_of_python[0] + h.of_objects[0] + float(h.masked[0])


def _rebound(h: Any) -> float:
    h.rebound = h.rebound * 0.5 + 1
    return h.rebound.sum()


def _best(h: Any) -> float:
    """Two names for one tensor, as in "the best so far"."""
    h.current = h.current + 1
    if len(h.seen_by_best) % 3 == 0:
        h.best = h.current
    h.seen_by_best.append(0)
    h.best += 0.5
    return float(h.current + 2 * h.best)


def _absent(h: Any) -> float:
    h.made_later = getattr(h, "made_later", 0) + 1
    return h.made_later


def _array(h: Any) -> float:
    h.array[1, 0] += 1
    return h.array.sum()


def _ring(h: Any) -> float:
    h.ring.append(len(h.ring) + h.ring[-1])
    return sum(h.ring)


def _sets(h: Any) -> float:
    h.names.add(f"name {len(h.names)}")
    return len(h.names)


def _counted(h: Any) -> float:
    h.counted["x"] += 1
    h.grouped[h.counted["x"] % 3].append(1)
    return h.counted["x"] + sum(map(len, h.grouped.values()))


def _nested(h: Any) -> float:
    key = "first" if h.nested["first"]["n"] < 4 else "second"
    h.nested[key]["n"] += 1
    return h.nested["first"]["n"] + 10 * h.nested["second"]["n"] + h.nested["rngs"][1].random()


def _tuple(h: Any) -> float:
    h.pair = (h.pair[0] + 1, h.pair[1] + (h.pair[0],))
    return h.pair[0] + len(h.pair[1])


def _none(h: Any) -> float:
    h.maybe = 1.0 if h.maybe is None else (None if h.maybe > 3 else h.maybe + 1)
    return h.maybe or 0.0


def _class(h: Any) -> float:
    h.of_class.drawn += 1
    return h.of_class.drawn + h.of_class.generator.random()


def _slotted(h: Any) -> float:
    h.slotted.n += 1
    return h.slotted.n


def _own(h: Any) -> float:
    h.stateful.n += 1
    return h.stateful.n


def fresh_class() -> type:
    """Return a class with its state as in a new process."""
    return type("OfTheClass", (OfTheClass,), {"drawn": 0, "generator": np.random.default_rng(5)})


# what is set on the object, and how it is drawn from
KINDS: dict[str, tuple[dict[str, Callable[[], Any]], Callable[[Any], Any]]] = {
    "numpy Generator": ({"rng": lambda: np.random.default_rng(1)}, lambda h: h.rng.random()),
    "numpy MT19937": ({"mt": lambda: np.random.Generator(np.random.MT19937(1))}, lambda h: h.mt.normal()),
    "numpy RandomState": ({"state": lambda: np.random.RandomState(1)}, lambda h: h.state.randn()),
    "random.Random": ({"python": lambda: random.Random(1)}, lambda h: h.python.gauss(0, 1)),
    "torch.Generator": (
        {"torch": lambda: torch.Generator().manual_seed(1)},
        lambda h: torch.rand((), generator=h.torch),
    ),
    "random.Random of another class": ({"own_python": lambda: OwnRandom(1)}, lambda h: h.own_python.random()),
    "numpy BitGenerator": ({"bits": lambda: np.random.PCG64(3)}, lambda h: h.bits.random_raw() % 1000 / 1000),
    "spawned generators": (
        {"spawns": lambda: np.random.default_rng(3), "seeds": lambda: np.random.SeedSequence(4)},
        _spawned,
    ),
    "sums of other kinds": (
        {
            "decimal": lambda: decimal.Decimal(0),
            "elapsed": datetime.timedelta,
            "array_of_python": lambda: array.array("d", [0.0]),
            "of_objects": lambda: np.array([0.0, None], dtype=object),
            "masked": lambda: np.ma.array([0.0, 1.0], mask=[False, True]),
        },
        _exact_sums,
    ),
    "generator in a partial": (
        {"noise": lambda: functools.partial(np.random.Generator.normal, np.random.default_rng(2))},
        lambda h: h.noise(),
    ),
    "generator in a closure": ({"closed": _with_closure}, lambda h: h.closed()),
    "nested, with generators": (
        {"nested": lambda: {"first": {"n": 0}, "second": {"n": 0}, "rngs": [0, np.random.default_rng(3)]}},
        _nested,
    ),
    "an object": ({"meter": Meter}, lambda h: h.meter.draw()),
    "objects in a list": ({"meters": lambda: [Meter(), Meter()]}, lambda h: h.meters[1].draw()),
    "an object with slots": ({"slotted": Slotted}, _slotted),
    "an object with its own state": ({"stateful": Stateful}, _own),
    "an array changed in place": ({"array": lambda: np.zeros((2, 3), order="F")}, _array),
    "a tensor that is replaced": ({"rebound": lambda: torch.ones(3)}, _rebound),
    "a tensor changed in place": ({"total": lambda: [torch.zeros(())]}, lambda h: h.total[0].add_(0.5)),
    "two names for one tensor": (
        {"current": lambda: torch.zeros(()), "best": lambda: torch.zeros(()), "seen_by_best": list},
        _best,
    ),
    "a deque": ({"ring": lambda: collections.deque([1.0], maxlen=4)}, _ring),
    "a set": ({"names": set}, _sets),
    "Counter and defaultdict": (
        {"counted": collections.Counter, "grouped": lambda: collections.defaultdict(list)},
        _counted,
    ),
    "a tuple": ({"pair": lambda: (0, ())}, _tuple),
    "None and a number": ({"maybe": lambda: None}, _none),
    "an attribute made later": ({}, _absent),
    "a generator of the file": ({}, _from_global),
    "state of a class": ({"of_class": fresh_class}, _class),
}


def furnish(holder: Any) -> None:
    """Give an object the state of every kind, as in a new process."""
    _GLOBAL.bit_generator.state = np.random.default_rng(7).bit_generator.state
    for attributes, _ in KINDS.values():
        for name, make in attributes.items():
            setattr(holder, name, make())


def draw_all(holder: Any) -> dict[str, float]:
    """Change the state of every kind once, and return the numbers."""
    return {kind: float(draw(holder)) for kind, (_, draw) in KINDS.items()}
