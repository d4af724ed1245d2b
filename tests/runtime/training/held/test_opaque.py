"""Objects of libraries that no checkpoint can hold: the user hears of those that the training changes."""

from __future__ import annotations

import collections
import multiprocessing
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.runtime.training.held import opaque
from nbkit.runtime.training.held.opaque import content_of
from tests.runtime.training.exact.sessions import one_session
from tests.runtime.training.training_support import Tiny, TinyData


def _append(frame: pd.DataFrame) -> None:
    frame.loc[len(frame)] = [1.0]


KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "data frame": (lambda: pd.DataFrame({"a": [0.0]}), _append),
    "one number of a data frame": (lambda: pd.DataFrame({"a": [0.0]}), lambda f: f.__setitem__("a", f["a"] + 1)),
    "series": (lambda: pd.Series([0.0]), lambda series: series.__setitem__(0, series[0] + 1)),
    "Sobol engine": (lambda: torch.quasirandom.SobolEngine(2, scramble=True, seed=1), lambda engine: engine.draw(1)),
    "queue": (queue.Queue, lambda waiting: waiting.put(1)),
    "queue of the same length": (lambda: _filled(queue.Queue()), lambda waiting: waiting.put(waiting.get() + 1)),
    "simple queue": (queue.SimpleQueue, lambda waiting: waiting.put(1)),
    "shared number": (lambda: multiprocessing.Value("i", 0), lambda one: setattr(one, "value", one.value + 1)),
    "shared numbers": (lambda: multiprocessing.Array("d", 3), lambda many: many.__setitem__(1, many[1] + 1)),
}


def _filled(waiting: Any) -> Any:
    waiting.put(0)
    return waiting


class Holds(Tiny):
    def __init__(self, thing: Any, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.thing, self.change = thing, change

    def on_train_batch_end(self, *args: Any) -> None:
        self.change(self.thing)


class Callback(lightning.Callback):
    def __init__(self, thing: Any, change: Callable[[Any], Any]) -> None:
        self.inside, self.change = {"thing": thing}, change

    def on_train_batch_end(self, *args: Any) -> None:
        self.change(self.inside["thing"])


class Data(TinyData):
    def __init__(self, thing: Any, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.thing, self.change = thing, change

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.change(self.thing)
        return batch


def _said(folder: Path, holder: str, thing: Any, change: Callable[[Any], Any]) -> list[str]:
    module = Holds(thing, change) if holder == "module" else Tiny()
    data = Data(thing, change) if holder == "data" else None
    callbacks = [Callback(thing, change)] if holder == "callback" else []
    _, session = one_session(folder, module, data, steps=5, callbacks=callbacks, save_every=1e-9)
    return [line for line in session.said if "a checkpoint cannot" in line]


@pytest.mark.train
@pytest.mark.parametrize("holder", ["module", "callback", "data"])
@pytest.mark.parametrize("name", KINDS)
def test_what_has_changed_inside_is_named_once(name: str, holder: str, tmp_path: Path) -> None:
    make, change = KINDS[name]
    [line] = _said(tmp_path, holder, make(), change)
    assert "thing" in line and "state_dict" in line


@pytest.mark.train
@pytest.mark.parametrize("name", KINDS)
def test_what_has_not_changed_is_not_named(name: str, tmp_path: Path) -> None:
    assert _said(tmp_path, "module", KINDS[name][0](), lambda thing: None) == []


@pytest.mark.train
def test_what_follows_the_weights_or_only_shows_is_not_named(tmp_path: Path) -> None:
    class Drawn(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.noise = torch.distributions.Normal(self.net[0].bias, 1.0)
            self.lock, self.patterns = threading.Lock(), collections.ChainMap({"a": 1})

    _, session = one_session(tmp_path, Drawn(), steps=5, save_every=1e-9)
    assert not [line for line in session.said if "a checkpoint cannot" in line]


def test_of_a_large_object_nothing_is_known_and_little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    large = pd.DataFrame({"a": np.zeros(opaque._MOST)})
    assert content_of(large) == "" and content_of(pd.DataFrame({"a": [1.0]})) != ""
    assert content_of(threading.Lock()) == ""


def test_an_object_whose_pickling_fails_in_any_way_is_unknown() -> None:
    for error in (ValueError, RecursionError, KeyError, RuntimeError):

        class Raises:
            def __reduce__(self, error=error) -> Any:
                raise error

        assert content_of(Raises()) == ""
