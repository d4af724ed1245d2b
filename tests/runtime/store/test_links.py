"""Links in a folder store: every reader sees the same, and what leads out of the store is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.commands.cli import run
from nbkit.tools.status.status import read_status
from nbkit.tools.status.verify import verify_store


def work(store: Path, folder: Path, number: int) -> dict:
    session = nbkit.open_session("slope", store=store, folder=folder)
    for item in session.work([{"key": f"k{n}"} for n in range(number)]):
        with item:
            item.save(x=np.arange(2))
    return session.close()


@pytest.fixture
def store(tmp_path) -> Path:
    work(tmp_path / "s", tmp_path / "f", 4)
    return tmp_path / "s"


def moved(path: Path, target: Path) -> None:
    """Move a folder, and leave a link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    os.symlink(os.path.relpath(target, path.parent), path)


@pytest.mark.parametrize("what", ["slope", "slope/items", "slope/ledger"])
def test_a_link_inside_the_store_is_followed_by_every_reader(store, tmp_path, what):
    before = {stat.name for stat in FolderStore(store).list()}
    moved(store / what, store / "data" / "here")
    one = FolderStore(store)
    assert before <= {stat.name for stat in one.list()}
    for prefix in ("slope", "slope/", "slope/items/", "slope/ledger/", f"{what}/", what[:3]):
        found = [stat.name for stat in one.list(prefix)]
        assert found == [stat.name for stat in one.list() if stat.name.startswith(prefix)], prefix
        assert len(found) == len(set(found))
    assert [row.done for row in read_status(str(store), ["slope"])] == [4]
    assert verify_store(str(store), ["slope"]).slugs == {"slope": 4}
    assert work(store, tmp_path / "f2", 6)["done"] == 6


@pytest.mark.parametrize("circle", ["itself", "above", "two", "the store", "a longer way"])
def test_links_in_a_circle_end(store, circle):
    before = {stat.name for stat in FolderStore(store).list()}
    (store / "a" / "b").mkdir(parents=True)
    (store / "c").mkdir()
    for name, target in {
        "itself": {"a/b/x": "."}, "above": {"a/b/x": ".."}, "two": {"a/x": "../c", "c/x": "../a"},
        "the store": {"a/x": ".."}, "a longer way": {"a/x": "../c", "c/x": "../slope", "slope/x": "../a"},
    }[circle].items():  # fmt: skip
        os.symlink(target, store / name)
    found = [stat.name for stat in FolderStore(store).list()]
    assert before <= set(found) and len(found) < 10 * len(before)


@pytest.mark.parametrize("what", ["slope", "slope/items", "slope/ledger"])
def test_a_link_out_of_the_store_is_named_by_every_reader(store, tmp_path, what, capsys):
    moved(store / what, tmp_path / "out" / what)
    one = FolderStore(store)
    for prefix in (f"{what}/", f"{what}/x/", f"{what}/x"):
        with pytest.raises(StoreError, match="leads out of the store"):
            list(one.list(prefix))
    assert not [stat.name for stat in one.list() if stat.name.startswith(f"{what}/")]
    assert what in [*one.links_out(), *one.links_out("slope")]
    # without a name, status reads the phases of the map, which this one is not on
    for verb in (*([["status"]] if what == "slope" else []), ["status", "slope"], ["verify"], ["verify", "slope"]):
        run([*verb, "--store", str(store)])
        printed = "".join(capsys.readouterr())
        assert f"{what} " in printed and "leads out of the store" in printed, verb
    if what == "slope/items":
        assert work(store, tmp_path / "f2", 6)["not_stored"]
    else:
        with pytest.raises(StoreError, match="leads out of the store"):
            work(store, tmp_path / "f2", 6)
    assert len(list((tmp_path / "out").rglob("*.npz"))) in (0, 4), "nothing was written behind the link"


def test_beside_other_phases_a_linked_phase_is_named_and_other_links_are_not(store, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    os.symlink(tmp_path / "notes", store / "notes")
    shutil.copytree(store / "slope", tmp_path / "out" / "other")
    os.symlink(tmp_path / "out" / "other", store / "other")
    found = verify_store(str(store))
    assert found.slugs == {"slope": 4} and list(found.faults) == ["other"]
    assert "leads out of the store" in found.faults["other"]
    assert run(["status", "--store", str(store)]) == 0
    assert "notes" not in capsys.readouterr().out
