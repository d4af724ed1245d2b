"""What no later session could go on from is refused before the first step; what is exact passes in silence."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import one_session
from tests.runtime.training.training_support import Tiny, TinyData


def _with_iterator(make: Callable[[], Any]) -> Any:
    module = Tiny()
    module.further = {"source": make()}
    return module


ITERATORS: dict[str, Callable[[], Any]] = {
    "list_iterator": lambda: iter([1, 2]),
    "generator": lambda: (n for n in range(9)),
    "itertools.count": itertools.count,
    "itertools.cycle": lambda: itertools.cycle("ab"),
    "zip": lambda: zip("ab", "cd", strict=True),
    "DataLoaderIter": lambda: iter(TinyData().train_dataloader()),
}


@pytest.mark.parametrize("kind", ITERATORS)
def test_an_iterator_is_refused_by_its_place(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        one_session(tmp_path, _with_iterator(ITERATORS[kind]))
    said = str(refusal.value)
    assert said.startswith("module.further['source'] is a") and kind in said and "state_dict" in said
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_iterator_of_a_callback_that_saves_its_place_is_not_refused(tmp_path: Path) -> None:
    class Placed(lightning.Callback):
        def __init__(self) -> None:
            self.n, self.numbers = 0, itertools.count()

        def state_dict(self) -> dict[str, Any]:
            return {"n": self.n}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.n, self.numbers = state["n"], itertools.count(state["n"])

    report, _ = one_session(tmp_path, Tiny(), callbacks=[Placed()], max_steps=2)
    assert report.complete


def test_reading_ahead_is_refused(tmp_path: Path) -> None:
    class Ahead(Tiny):
        def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]
            batch, number, _ = next(dataloader_iter)
            return super().training_step(batch, number)

    with pytest.raises(UsageError, match=r"Ahead\.training_step .*batch_idx"):
        one_session(tmp_path, Ahead())
