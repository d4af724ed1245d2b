"""Passing faults are tried again, permanent ones are not, and no wait goes past the deadline."""

from __future__ import annotations

import threading
import time

import pytest

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store import retried as module
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.retried import Retried
from tests.runtime.store.faulty_store import VERBS, FaultyStore, on, passing, permanent


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been slept by this thread; other threads of the process, which do sleep, count not."""
    slept: list[float] = []
    own, sleep = threading.get_ident(), time.sleep

    def note(seconds: float) -> None:
        (slept.append if threading.get_ident() == own else sleep)(seconds)

    monkeypatch.setattr(module.time, "sleep", note)
    return slept


def do(store, verb: str, tmp_path):
    (tmp_path / "file").write_text("x")
    store_calls = {
        "put": lambda: store.put(tmp_path / "file", "a"), "get": lambda: store.get("a", tmp_path / "got"),
        "stat": lambda: store.stat("a"), "list": lambda: list(store.list()), "delete": lambda: store.delete("a"),
    }  # fmt: skip
    return store_calls[verb]()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_gets_over_passing_faults(tmp_path, waits, verb):
    FolderStore(tmp_path / "s").put(_file(tmp_path), "a")
    faulty = FaultyStore(FolderStore(tmp_path / "s"), on(verb, passing, lambda call: call <= 4))
    do(Retried(faulty), verb, tmp_path)
    assert faulty.calls[verb] == 5 and len(waits) == 4


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_passes_permanent_faults_on_at_once(tmp_path, waits, verb):
    FolderStore(tmp_path / "s").put(_file(tmp_path), "a")
    faulty = FaultyStore(FolderStore(tmp_path / "s"), on(verb, permanent))
    with pytest.raises(StoreError, match="forbidden on purpose"):
        do(Retried(faulty), verb, tmp_path)
    assert faulty.calls[verb] == 1 and waits == []


def _file(tmp_path):
    (tmp_path / "first").write_text("x")
    return tmp_path / "first"


def test_waits_grow_and_are_jittered(tmp_path, waits):
    faulty = FaultyStore(FolderStore(tmp_path), on("list", passing))
    for _ in range(2):
        with pytest.raises(StoreError, match="503"):
            list(Retried(faulty).list())
    first, second = waits[:5], waits[5:]
    assert faulty.calls["list"] == 12
    assert all(0.2 * 2**i <= wait <= 0.2 * 2**i + 0.21 for i, wait in enumerate(first)), first
    assert first != second


def test_no_sooner_than_the_store_asked(tmp_path, waits):
    def busy(verb: str, name: str, call: int) -> StoreError | None:
        return StoreError("429", passing=True, retry_after=7.0) if call == 1 else None

    list(Retried(FaultyStore(FolderStore(tmp_path), busy)).list())
    assert waits == [7.0]


def test_no_wait_past_the_deadline(tmp_path, waits):
    faulty = FaultyStore(FolderStore(tmp_path), on("list", passing))
    with pytest.raises(StoreError):
        list(Retried(faulty, time_left=lambda: 1.0 - sum(waits)).list())
    assert sum(waits) <= 1.0 and faulty.calls["list"] < 6
    with pytest.raises(StoreError):
        list(Retried(faulty, time_left=lambda: -1.0).list())
    assert sum(waits) <= 1.0


def test_what_is_not_there_is_no_fault(tmp_path, waits):
    faulty = FaultyStore(FolderStore(tmp_path))
    with pytest.raises(FileNotFoundError):
        Retried(faulty).get("a", tmp_path / "got")
    assert faulty.calls["get"] == 1


def test_connections_keep_the_patience(tmp_path, waits):
    faulty = FaultyStore(FolderStore(tmp_path), on("list", passing))
    with pytest.raises(StoreError):
        list(Retried(faulty, tries=3).connect().list())
    assert faulty.calls["list"] == 3
