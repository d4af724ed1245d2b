"""What a user's class leaves out where it is pickled is a cache: neither kept in the checkpoint nor told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics

from nbkit.runtime.training.held.caches import caches_of
from tests.runtime.training.exact.sessions import one_session
from tests.runtime.training.held.test_held import Waiting
from tests.runtime.training.training_support import TinyData, checkpoint_of

LEFT = {
    "left out": lambda state: {name: value for name, value in state.items() if name != "kept"},
    "None": lambda state: {**state, "kept": None},
    "an empty dict": lambda state: {**state, "kept": {}},
    "an empty list": lambda state: {**state, "kept": []},
    "beside slots": lambda state: ({**state, "kept": None}, {"slot": 1}),
}
STAYS = {
    "as it is": dict,
    "a copy": lambda state: {**state, "kept": dict(state["kept"])},
    "not a dict": lambda state: list(state.values()),
    "an error": lambda state: (_ for _ in ()).throw(TypeError("cannot be pickled")),
}


def _thing(getstate: Any, kept: Any) -> Any:
    kind = type("Files", (), {"__getstate__": lambda self: getstate(self.__dict__)})
    thing = kind()
    thing.kept, thing.other = kept, [1]
    return thing


@pytest.mark.parametrize("way", LEFT)
@pytest.mark.parametrize("kept", [{0: memoryview(b"x")}, {0: np.zeros(3)}, [torch.zeros(2)], np.zeros(3)])
def test_what_is_left_out_or_emptied_is_a_cache(way: str, kept: Any) -> None:
    assert caches_of(_thing(LEFT[way], kept)) == {"kept"}


@pytest.mark.parametrize("way", STAYS)
def test_what_stays_is_state(way: str) -> None:
    assert caches_of(_thing(STAYS[way], {0: np.zeros(3)})) == frozenset()


@pytest.mark.parametrize("kept", [3, "text", None, np.random.default_rng(0), torchmetrics.MeanMetric()])
def test_what_may_be_state_all_the_same_stays(kept: Any) -> None:
    assert caches_of(_thing(LEFT["left out"], kept)) == frozenset()


@pytest.mark.parametrize("thing", [torchmetrics.MeanMetric(), Waiting(), TinyData(), object()])
def test_what_a_library_leaves_out_says_nothing(thing: Any) -> None:
    assert caches_of(thing) == frozenset()


class Files:
    """Opens what it reads once."""

    def __init__(self) -> None:
        self.maps: dict[int, Any] = {}
        self.levels: dict[int, np.ndarray] = {}
        self.reads = [0]

    def read(self) -> None:
        self.maps[len(self.maps)], self.levels[len(self.levels)] = memoryview(b"x"), np.zeros(3)
        self.reads[0] += 1


class Pickled(Files):
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "maps": {}, "levels": {}}


class Reading(Waiting):
    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files = files

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.files.read()


@pytest.mark.train
@pytest.mark.parametrize("kind", [Files, Pickled])
def test_a_checkpoint_holds_no_cache_and_nothing_is_said(kind: type[Files], tmp_path: Path) -> None:
    _, session = one_session(tmp_path, Reading(kind()), steps=9)
    entries = {path for path in checkpoint_of(tmp_path)["nbkit"]["metrics"]["held"]["entries"] if "files" in path}
    said = [line for line in session.said if "checkpoint cannot" in line]
    if kind is Pickled:
        assert entries == {"module.files.reads"} and not said
    else:  # without a __getstate__ nothing tells a cache from state
        assert "module.files.levels" in entries and "module.files.maps" in said[0]
