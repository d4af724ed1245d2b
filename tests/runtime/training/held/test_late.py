"""What a later session would have otherwise is put right, or refused at the save: deletions, late objects, odd keys."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train


class Slots:
    """An object without a __dict__."""

    __slots__ = ("warm",)


def _slots() -> Slots:
    slots = Slots()
    slots.warm = 0.5
    return slots


class Goes(Tiny):
    """Has something until epoch 1."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.warm, self.inner, self.slots, self.named = (
            0.5,
            Tiny(),
            _slots(),
            {"warm": 0.5, "other": nn.functional.relu},
        )
        self.inner.warm = 0.5
        self.register_buffer("passing", torch.full((1,), 0.5), persistent=False)

    def holder(self) -> Any:
        return {"attribute": self, "of a part": self.inner, "slot": self.slots, "buffer": self}.get(self.kind)

    def factor(self) -> float:
        name = "passing" if self.kind == "buffer" else "warm"
        if self.kind == "entry":
            return self.named.get("warm", 1.0)
        return float(getattr(self.holder(), name, 1.0))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * self.factor()

    def on_train_epoch_end(self) -> None:
        if self.factor() != 1.0:
            if self.kind == "entry":
                del self.named["warm"]
            else:
                delattr(self.holder(), "passing" if self.kind == "buffer" else "warm")


@pytest.mark.parametrize("kind", ["attribute", "of a part", "slot", "buffer", "entry"])
def test_what_was_deleted_stays_deleted(kind: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Goes(kind), max_steps=22)


class Ema:
    """A mean of the weights that gives and takes its state."""

    def __init__(self, net: Any) -> None:
        self.net = {name: p.detach().clone() for name, p in net.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        return self.net

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net = dict(state)


@pytest.mark.parametrize("early", ["None", "absent"])
def test_an_object_with_a_state_that_is_made_late_is_refused_with_the_remedy(early: str, tmp_path: Path) -> None:
    class Makes(Tiny):
        def __init__(self) -> None:
            super().__init__()
            if early == "None":
                self.ema = None

        def on_train_batch_end(self, *args: Any) -> None:
            if self.global_step == 5:
                self.ema = Ema(self.net)

    with pytest.raises(UsageError, match=r"module\.ema has become a Ema .*__init__, setup\(\).*earlier checkpoints"):
        one_session(tmp_path, Makes(), steps=7)


KEYS: dict[str, Callable[[Any], list[Any]]] = {
    "parameters": lambda m: list(m.net.parameters()),
    "modules": lambda m: list(m.net),
    "classes": lambda m: [nn.Linear, nn.Tanh],
    "functions": lambda m: [nn.functional.relu, nn.functional.mse_loss],
    "ids of parameters": lambda m: [id(p) for p in m.net.parameters()],
    "ids of modules": lambda m: [id(part) for part in m.net],
}


# a dict under classes or functions that grows is said, as one of objects is: it may be a cache
@pytest.mark.parametrize(("keys", "early"), [*((k, True) for k in KEYS), *((k, False) for k in KEYS if k[0] in "pmi")])
def test_entries_under_keys_that_no_later_session_has_are_refused(keys: str, early: bool, tmp_path: Path) -> None:
    class Counts(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.seen = dict.fromkeys(KEYS[keys](self), 0.0) if early else {}

        def on_train_batch_end(self, *args: Any) -> None:
            for key in KEYS[keys](self):
                self.seen[key] = self.seen.get(key, 0.0) + 1.0

    with pytest.raises(UsageError, match=r"module\.seen.* dict holds under .* Use names as keys"):
        one_session(tmp_path, Counts(), steps=7)


def test_numbers_and_texts_as_keys_are_no_mistake(tmp_path: Path) -> None:
    class Counts(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[Any, float] = {}
            self.copied = copy.copy(self.seen)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            for key in (batch_idx, str(batch_idx), (1 << 40) + batch_idx, ("a", batch_idx)):
                self.seen[key] = self.seen.get(key, 0.0) + 0.1
            return super().training_step(batch, batch_idx) * (1 + sum(self.seen.values()))

    assert_same(tmp_path, Counts, max_steps=14)
