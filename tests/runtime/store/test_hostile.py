"""Odd stores: links that lead out of a folder, addresses that cannot be reached or written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbkit.runtime.errors import NbkitError, StoreError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.opening import open_store
from nbkit.tools.commands.cli import run

VERBS = {
    "put": lambda store, name, path: store.put(path, name),
    "get": lambda store, name, path: store.get(name, path.with_name("fetched")),
    "stat": lambda store, name, path: store.stat(name),
    "delete": lambda store, name, path: store.delete(name),
}
ADDRESSES = ["ftp://127.0.0.1:1/x", "nosuch://x", "http://127.0.0.1:1/x", "github://a:b@/", "data://x", "zip://x.zip"]


@pytest.fixture
def linked(tmp_path: Path) -> FolderStore:
    """A store with a file and a folder that are links out of it, and one link that stays inside."""
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/secret.txt").write_text("secret")
    (tmp_path / "outside/deep/secret.txt").write_text("secret")
    root = tmp_path / "store"
    (root / "a").mkdir(parents=True)
    (root / "a/own.txt").write_text("own")
    os.symlink(tmp_path / "outside/secret.txt", root / "a/file.txt")
    os.symlink(tmp_path / "outside/deep", root / "a/folder")
    os.symlink("own.txt", root / "a/inside.txt")
    os.symlink(root, root / "a/loop")
    (tmp_path / "new").write_text("new")
    return FolderStore(root)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["a/file.txt", "a/folder/secret.txt", "a/folder/new.txt", "a/folder/more/new.txt"])
def test_a_link_out_of_the_store_is_not_followed(linked: FolderStore, tmp_path: Path, verb: str, name: str) -> None:
    with pytest.raises(StoreError, match="symbolic link that leads out"):
        VERBS[verb](linked, name, tmp_path / "new")
    assert (tmp_path / "outside/secret.txt").read_text() == "secret"
    assert sorted(p.name for p in (tmp_path / "outside").rglob("*")) == ["deep", "secret.txt", "secret.txt"]
    assert not (tmp_path / "fetched").exists()


def test_listing_shows_what_is_inside(linked: FolderStore) -> None:
    assert [stat.name for stat in linked.list()] == ["a/inside.txt", "a/own.txt"]
    assert linked.stat("a/inside.txt").size == 3


def test_a_store_that_is_itself_behind_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    (tmp_path / "new").write_text("new")
    FolderStore(tmp_path / "link").put(tmp_path / "new", "a/new.txt")
    assert (tmp_path / "real/a/new.txt").read_text() == "new"


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_no_store_is_refused_in_words(address: str) -> None:
    with pytest.raises(NbkitError) as caught:
        list(open_store(address).list())
    assert caught.value.exit_code in (1, 2) and str(caught.value)


@pytest.mark.parametrize("verb", ["status", "verify", "report"])
@pytest.mark.parametrize("address", [*ADDRESSES[:3], "nothing-here"])
def test_a_command_says_it_in_one_sentence(verb: str, address: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([verb, "--store", address]) in (1, 2)
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and "Traceback" not in said.err and not list(tmp_path.iterdir())
