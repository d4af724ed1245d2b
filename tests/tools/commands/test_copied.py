"""Copies of the notebooks: complete, never overwritten, and with the store that the terminal has."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import default_store, store_address
from nbkit.tools.commands.cli import run
from nbkit.tools.commands.copied import copy_notebooks


def test_all_notebooks_are_copied_and_none_is_overwritten(tmp_path):
    names = sorted(path.name for path in (home() / "notebooks").glob("*.ipynb"))
    said = copy_notebooks(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").glob("*.ipynb")) == names
    assert said.startswith(f"{len(names)} notebooks copied") and "jupyterlab" in said
    (tmp_path / "mine" / names[1]).unlink()
    (tmp_path / "mine" / names[0]).write_text("changed")
    said = copy_notebooks(tmp_path / "mine")
    assert said.startswith("1 notebook copied") and Path(names[0]).stem in said
    assert (tmp_path / "mine" / names[0]).read_text() == "changed"


def test_a_kernel_in_the_copies_and_a_terminal_beside_them_have_one_store(tmp_path, monkeypatch):
    monkeypatch.delenv("NBKIT_STORE", raising=False)
    copy_notebooks(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    in_terminal = default_store()
    monkeypatch.chdir(tmp_path / "mine")
    assert default_store() == in_terminal == tmp_path / "nbkit-store" == Path(store_address(None))
    monkeypatch.chdir(home() / "notebooks")
    assert default_store() == home() / "nbkit-store"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert default_store() == tmp_path / "other" / "nbkit-store"


@pytest.mark.parametrize("place", ["a file", "the notebooks themselves"])
def test_places_that_cannot_be_are_refused_in_words(tmp_path, place, capsys):
    target = home() / "notebooks"
    if place == "a file":
        target = tmp_path / "file"
        target.write_text("x")
    with pytest.raises(UsageError, match="Nothing was copied"):
        copy_notebooks(target)
    assert run(["notebooks", str(target)]) == 2 and "Traceback" not in capsys.readouterr().err
