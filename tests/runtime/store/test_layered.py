"""The layered store: both are read, the upper one first, and only it is written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.layered import LayeredStore
from nbkit.runtime.store.protocol import Store


@pytest.fixture
def put(tmp_path):
    """Return a function that stores a text under a name."""

    def write(store: Store, name: str, text: str) -> None:
        path = tmp_path / "text"
        path.write_text(text)
        store.put(path, name)

    return write


@pytest.fixture
def lower(tmp_path, put) -> FolderStore:
    store = FolderStore(tmp_path / "lower")
    for name in ("a/one", "a/two", "own/one"):
        put(store, name, "below")
    return store


@pytest.fixture
def layered(tmp_path, lower) -> LayeredStore:
    return LayeredStore(FolderStore(tmp_path / "upper"), lower, "own/")


def read(store: Store, name: str, tmp_path: Path) -> str:
    store.get(name, tmp_path / "got")
    return (tmp_path / "got").read_text()


def files(store: FolderStore) -> dict[str, int]:
    return {stat.name: stat.size for stat in store.list()}


def test_it_is_a_store_with_the_upper_ones_address(layered):
    assert isinstance(layered, Store) and layered.url == layered.upper.url
    assert [stat.name for stat in layered.connect().list()] == ["a/one", "a/two"]


def test_the_upper_store_covers_the_lower_one_which_stays_as_it_is(layered, lower, put, tmp_path):
    before = files(lower)
    put(layered, "a/two", "above, longer")
    put(layered, "b/three", "above")
    layered.delete("a/one")
    assert [stat.name for stat in layered.list()] == ["a/one", "a/two", "b/three"]
    assert [stat.name for stat in layered.list("a/")] == ["a/one", "a/two"]
    assert read(layered, "a/one", tmp_path) == "below" and read(layered, "a/two", tmp_path) == "above, longer"
    found = layered.stat("a/two")
    assert found is not None and found.size == len("above, longer")
    assert files(lower) == before


def test_hidden_names_are_those_of_the_upper_store_only(layered, put, tmp_path):
    assert layered.stat("own/one") is None and not list(layered.list("own/"))
    with pytest.raises(FileNotFoundError):
        layered.get("own/one", tmp_path / "got")
    put(layered, "own/one", "above")
    assert read(layered, "own/one", tmp_path) == "above"
