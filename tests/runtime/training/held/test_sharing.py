"""What is one object, or one memory, in two places is so in a resumed session, too.

Every kind of thing that can be changed is put into every pair of places, and is then changed through one of the two and
read through the other, in each batch.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from nbkit.runtime.training.held.places import Walk
from nbkit.runtime.training.held.sharing import join, sharing_of
from tests.runtime.training.exact.sessions import assert_same
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train


@dataclasses.dataclass
class Record:
    """A value with a name."""

    n: float = 0.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Holds another value."""

    inside: Any


Pair = collections.namedtuple("Pair", "first second")

# how it is made, how a number is added to it, and the number that it holds
THINGS: dict[str, tuple[Callable[[], Any], Callable[[Any, float], Any], Callable[[Any], float]]] = {
    "dict": (lambda: {"n": 0.0}, lambda x, y: x.__setitem__("n", x["n"] + y), lambda x: x["n"]),
    "list": (lambda: [0.0], lambda x, y: x.append(y), sum),
    "deque": (lambda: collections.deque([0.0], 3), lambda x, y: x.append(y), sum),
    "set": (lambda: {0.0}, lambda x, y: x.add(round(y, 3)), lambda x: float(len(x))),
    "Counter": (collections.Counter, lambda x, y: x.update(["n"]), lambda x: float(x["n"])),
    "record": (Record, lambda x, y: setattr(x, "n", x.n + y), lambda x: x.n),
    "tensor": (lambda: torch.zeros(2), lambda x, y: x.add_(y), lambda x: float(x.sum())),
    "numbers": (lambda: np.zeros(2), lambda x, y: x.__iadd__(y), lambda x: float(x.sum())),
    "array": (lambda: array.array("d", [0.0]), lambda x, y: x.append(y), sum),
    "generator": (lambda: np.random.default_rng(1), lambda x, y: x.random(), lambda x: float(x.random())),
}
# how a place of a holder is filled, and how what is there is found
PLACES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    "attribute": (lambda h, x: setattr(h, "one", x), lambda h: h.one),
    "list": (lambda h, x: h.many.append(x), lambda h: h.many[-1]),
    "dict": (lambda h, x: h.named.__setitem__("x", x), lambda h: h.named["x"]),
    "deque": (lambda h, x: h.recent.append(x), lambda h: h.recent[-1]),
    "tuple": (lambda h, x: setattr(h, "fixed", (1, x)), lambda h: h.fixed[1]),
    "named tuple": (lambda h, x: setattr(h, "pair", Pair(0, x)), lambda h: h.pair.second),
    "record": (lambda h, x: setattr(h, "frozen", Frozen(x)), lambda h: h.frozen.inside),
    "deep": (lambda h, x: h.deep["a"].append((x, 1)), lambda h: h.deep["a"][-1][0]),
}


class Holder:
    """Has places to fill."""

    def __init__(self) -> None:
        self.one: Any = None
        self.many: list[Any] = [[1.0]]
        self.named: dict[str, Any] = {}
        self.recent: Any = collections.deque([0], 4)
        self.fixed, self.pair, self.frozen = (1, 2), Pair(1, 2), Frozen(3)
        self.deep: dict[str, list[Any]] = {"a": []}


class Sharing(Tiny):
    """Shares something anew in every third batch, between two holders."""

    def __init__(self, thing: str, one: str, other: str) -> None:
        super().__init__()
        self.a, self.b = Holder(), Holder()
        self.kinds = thing, one, other

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        thing, one, other = self.kinds
        make, add, read = THINGS[thing]
        if batch_idx % 3 == 0:
            new = make()
            PLACES[one][0](self.a, new)
            PLACES[other][0](self.b, new)
        add(PLACES[one][1](self.a), float(batch[0][0, 0].abs()))
        return super().training_step(batch, batch_idx) * (1 + 0.1 * read(PLACES[other][1](self.b)))


PAIRS = list(itertools.combinations_with_replacement(PLACES, 2))
TRAINED = [(thing, *PAIRS[(7 * number + 3) % len(PAIRS)]) for number, thing in enumerate(THINGS)]


@pytest.mark.parametrize(("thing", "one", "other"), TRAINED)
def test_what_two_places_share_is_shared_after_a_resume(thing: str, one: str, other: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Sharing(thing, one, other), max_steps=14)


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_equal_values_become_one_again(thing: str, one: str, other: str) -> None:
    def holders(same: bool) -> tuple[Holder, Holder, Walk]:
        a, b = Holder(), Holder()
        new = THINGS[thing][0]()
        PLACES[one][0](a, new)
        PLACES[other][0](b, new if same else THINGS[thing][0]())
        walk = Walk()
        walk.root(a, "a")
        walk.root(b, "b")
        return a, b, walk

    a, b, walk = holders(same=True)
    found = sharing_of(walk.places, {})
    a, b, walk = holders(same=False)
    assert PLACES[one][1](a) is not PLACES[other][1](b)
    join(found, walk.places, set(), {})
    assert PLACES[one][1](a) is PLACES[other][1](b)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "detached": lambda m: [p.data for p in m.net.parameters()],
    "a state_dict": lambda m: m.net.state_dict(),
    "rows": lambda m: {"rows": m.net[0].weight.data[1:3]},
    "columns": lambda m: (m.net[0].weight.data[:, ::2], 1),
    "transposed": lambda m: m.net[0].weight.detach().t(),
    "the parameters themselves": lambda m: {"all": [list(m.net.parameters())]},
    "a view of a buffer": lambda m: [m.queue[2:4], m.queue],
}


# a list of parameters or buffers that is made late is said, because it is no plain value
@pytest.mark.parametrize(("view", "since"), [*((v, 0) for v in VIEWS), *((v, 5) for v in VIEWS if "buffer" not in v)])
def test_views_of_weights_and_buffers_are_views_after_a_resume(view: str, since: int, tmp_path: Path) -> None:
    class Views(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.zeros(6))
            self.kept: Any = VIEWS[view](self) if since == 0 else None

        def on_train_batch_end(self, *args: Any) -> None:
            if self.global_step == since:
                self.kept = VIEWS[view](self)
            with torch.no_grad():
                self.queue.add_(0.1)
                for tensor in _tensors(self.kept):
                    tensor.clamp_(-0.3, 0.3) if tensor.requires_grad else tensor.mul_(0.999)
                self.queue.mul_(1 + float(sum(t.double().sum() for t in _tensors(self.kept))) * 1e-3)
                self.net[0].bias.data.add_(self.queue.mean(), alpha=1e-2)

    assert_same(tmp_path, Views, max_steps=14)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def test_a_tensor_that_two_owners_hold_is_one_after_a_resume(tmp_path: Path) -> None:
    class Sums(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.sums = torch.zeros(1)
            module.seen = [1, (self.sums, 2)]

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *args: Any) -> None:
            self.sums += batch[0].mean()

    class Seen(Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) * (1 + self.seen[1][0].squeeze())

    assert_same(tmp_path, Seen, callbacks=lambda: [Sums()], max_steps=14)
