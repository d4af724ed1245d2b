"""A notebook that was opened and run inside the checkout is no change for git; what a person wrote in it is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from nbclient import NotebookClient
from traitlets.config.loader import PyFileConfigLoader

from tests.stripping import KERNEL, stored

NAME = "notebooks/05_toy.ipynb"
CELLS = ("STEPS = 3  # steps\nSMOKE = False", "print(STEPS)\nSTEPS")


def git(folder: Path, *words: str) -> str:
    """Return what a git command says; its errors too, as nothing may be said where all is well."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *words], cwd=folder, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(root, tmp_path_factory) -> Path:
    """Return a small checkout with the filter that ``make setup`` defines, and one notebook."""
    tmp_path = tmp_path_factory.mktemp("checkout")
    for name in (".gitattributes", ".gitignore", "Makefile", "tests/__init__.py", "tests/stripping.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".venv/.ready").touch()
    cells = [nbformat.v4.new_code_cell(text, id=f"cell-{i}") for i, text in enumerate(CELLS)]
    cells[0].metadata = {"tags": ["parameters"]}
    (tmp_path / "notebooks").mkdir()
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    (tmp_path / NAME).write_text(stored(nbformat.writes(book)), "utf-8")
    git(tmp_path, "init", "-q")
    show = ["make", "-s", "--eval", "show: ; $(info $(FILTER))", "show"]
    command = subprocess.run(show, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()[0]
    git(tmp_path, "config", "--local", "filter.notebook.clean", command)
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Begin")
    return tmp_path


def run_as_an_editor(path: Path, root: Path) -> None:
    """Run a notebook in its place, leave in it what editors do, and save it by Jupyter's server."""
    book = nbformat.read(path, as_version=4)
    NotebookClient(book).execute()
    book.metadata |= {"kernelspec": KERNEL | {"display_name": ".venv (3.12.3)"}, "widgets": {}, "colab": {"a": 1}}
    book.cells[0].metadata |= {"editable": True, "slideshow": {"slide_type": ""}, "scrolled": True}
    settings = PyFileConfigLoader("jupyter_server_config.py", path=str(root / "tests")).load_config()
    files = LargeFileManager(root_dir=str(path.parent), config=settings)
    files.save({"type": "notebook", "content": book}, path.name)


@pytest.mark.notebook
def test_a_notebook_run_in_the_checkout_is_no_change_and_a_parameter_is_one(checkout, root):
    run_as_an_editor(checkout / NAME, root)
    assert '"execution_count": 2' in (checkout / NAME).read_text("utf-8")
    assert git(checkout, "status", "--porcelain") == ""

    text = (checkout / NAME).read_text("utf-8")
    (checkout / NAME).write_text(text.replace("STEPS = 3 ", "STEPS = 5 "), "utf-8")
    changed = [line for line in git(checkout, "diff", "-U0").splitlines() if line[:1] in "+-"][2:]
    assert [line[0] + line[1:].strip() for line in changed] == [
        '-"STEPS = 3  # steps\\n",', '+"STEPS = 5  # steps\\n",'
    ]  # fmt: skip


def test_what_is_no_notebook_stays_as_it_is_and_a_clone_without_the_filter_is_clean(checkout, tmp_path):
    git(checkout, "checkout", "-q", "--", ".")
    assert "filter" not in git(tmp_path, "clone", "-q", str(checkout), "clone")
    assert git(tmp_path / "clone", "status", "--porcelain") == ""
    (checkout / NAME).write_text('{"cells": <<<<<<< HEAD', "utf-8")
    assert "git stores this file as it is" in git(checkout, "add", NAME)
    assert git(checkout, "show", f":{NAME}") == '{"cells": <<<<<<< HEAD'
    git(checkout, "reset", "-q", "--hard")


@pytest.mark.parametrize("gone", ["tests/stripping.py", ".venv"])
def test_git_works_where_the_filter_cannot(checkout, gone):
    """In an older commit, or without the environment, a file is taken as it is; nothing is said."""
    path = checkout / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = (checkout / NAME).read_text("utf-8")
    (checkout / NAME).write_text(text.replace('"execution_count": null', '"execution_count": 1', 1), "utf-8")
    assert NAME in git(checkout, "status", "--porcelain")
    assert git(checkout, "checkout", "-q", "--", NAME) == ""
    assert NAME not in git(checkout, "status", "--porcelain")


def test_another_kernel_is_kept_so_that_the_form_can_refuse_it():
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}})
    assert json.loads(stored(nbformat.writes(book)))["metadata"]["kernelspec"]["name"] == "ir"
