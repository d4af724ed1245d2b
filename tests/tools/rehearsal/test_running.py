"""One session through papermill: parameters, kernel, exit codes, words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import store_address
from nbkit.tools.notebooks import check_parameters, find_notebook, notebook_parameters, parse_parameters
from nbkit.tools.rehearsal.running import exit_code, run_notebook
from tests.conftest import CLOSE, OPEN, PARAMETERS

pytestmark = pytest.mark.rehearse


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_complete_session_exits_0_and_its_executed_copy_is_in_the_store(toy, tmp_path, capsys):
    before = dict(os.environ)
    assert run_notebook(toy, {"N": 3}, store=tmp_path / "store") == 0
    assert dict(os.environ) == before
    stored = sorted(path.name for path in (tmp_path / "store/toy/items").iterdir())
    assert stored == ["k000.npz", "k001.npz", "k002.npz"]
    assert np.load(tmp_path / "store/toy/items/k002.npz")["x"][0] == 2
    (executed,) = (tmp_path / "store/toy/sessions").glob("*.ipynb")
    cells = json.loads(executed.read_text())["cells"]
    assert any("N = 3" in "".join(cell["source"]) for cell in cells)
    assert "3 items in the store" in capsys.readouterr().out
    assert not any(cell["outputs"] for cell in json.loads(toy.read_text())["cells"])


def test_a_session_that_stops_before_its_wall_exits_3(toy, tmp_path):
    assert run_notebook(toy, {"N": 400, "SECONDS": 0.1}, store=tmp_path / "store", limit="2s", quiet=True) == 3
    assert 1 <= len(list((tmp_path / "store/toy/items").iterdir())) < 400


def test_a_cell_that_raises_is_told_in_words_and_exits_1(make_notebook, tmp_path, capsys):
    notebook = make_notebook(PARAMETERS, "values = [1, 2]\nvalues[5]")
    assert run_notebook(notebook, store=tmp_path / "store", quiet=True) == 1
    said = capsys.readouterr().err
    assert "raised IndexError: list index out of range" in said
    assert "\x1b" not in said


def test_an_error_of_ours_has_no_traceback_and_keeps_its_exit_code(make_notebook, tmp_path, capsys):
    notebook = make_notebook(PARAMETERS, 'import nbkit\nsession = nbkit.open_session("Not a slug")')
    assert run_notebook(notebook, store=tmp_path / "store", quiet=True) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Phase slug 'Not a slug' is not valid.")
    assert "  | " not in said and "Traceback" not in said


def test_the_kernel_is_this_interpreter_whatever_else_is_registered(make_notebook, tmp_path, monkeypatch):
    other = tmp_path / "jupyter/kernels/python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = make_notebook(
        "OUT = ''\nSMOKE = False",
        "import sys, pathlib, nbkit\npathlib.Path(OUT).write_text(sys.executable + '\\n' + nbkit.__file__)",
    )
    assert run_notebook(notebook, {"OUT": str(tmp_path / "out")}, store=tmp_path / "store", quiet=True) == 0
    import nbkit

    assert (tmp_path / "out").read_text().splitlines() == [sys.executable, nbkit.__file__]


def test_a_store_and_smoke_given_here_win_over_the_notebooks_own(make_notebook, tmp_path):
    notebook = make_notebook(
        'STORE = "elsewhere"\nSMOKE = False', OPEN.replace("smoke=", "store=STORE, smoke="), CLOSE + "\nassert SMOKE"
    )
    assert run_notebook(notebook, store=tmp_path / "store", smoke=True, quiet=True) == 0
    assert (tmp_path / "store/toy/ledger").is_dir() and not (tmp_path / "here/elsewhere").exists()


def test_parameters_are_those_of_the_tagged_cell(make_notebook):
    path = make_notebook("A = 1  # steps\nB = (1.5, 2)\nC = None\nSMOKE = False", "D = 4")
    assert notebook_parameters(path) == {"A": 1, "B": (1.5, 2), "C": None, "SMOKE": False}


def test_a_parameter_that_is_no_literal_is_refused(make_notebook):
    with pytest.raises(UsageError, match="literals only"):
        notebook_parameters(make_notebook("A = print(1)"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"STEP": 3}, "Did you mean 'STEPS'"),
        ({"STEPS": "many"}, "STEPS is 'many' (str), but must be int, as the notebook's own value 300"),
        ({"STEPS": 2.5}, "STEPS is 2.5 (float)"),
        ({"SMOKE": 1}, "SMOKE is 1 (int)"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_begins(tmp_path, given, words):
    known = {"STEPS": 300, "RATE": 0.1, "RUNS": [3, 4], "PATH": None, "SMOKE": False}
    with pytest.raises(UsageError) as caught:
        check_parameters(tmp_path / "x.ipynb", known, given)
    assert words in str(caught.value)


def test_numbers_and_sequences_are_taken_as_the_notebook_has_them(tmp_path):
    known = {"RATE": 0.1, "RUNS": (3, 4), "PATH": None}
    taken = check_parameters(tmp_path / "x.ipynb", known, {"RATE": 1, "RUNS": [5], "PATH": "there"})
    assert taken == {"RATE": 1.0, "RUNS": [5], "PATH": "there"} and isinstance(taken["RATE"], float)


def test_values_are_json_where_they_can_be():
    texts = ["A=3", "B=0.5", "C=[1, 2]", "D=true", "E=True", "F=eegbci", 'G="7"', "H=a=b", "I=null", "J="]
    assert parse_parameters(texts) == {
        "A": 3, "B": 0.5, "C": [1, 2], "D": True, "E": True, "F": "eegbci", "G": "7", "H": "a=b", "I": None, "J": ""
    }  # fmt: skip


@pytest.mark.parametrize("text", ["A", "=3", "A B=3", "3=A"])
def test_what_is_not_name_and_value_is_refused(text):
    with pytest.raises(UsageError, match="not NAME=VALUE"):
        parse_parameters([text])


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", '{"cells": 3}', "not json"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    (tmp_path / "x.ipynb").write_text(content)
    with pytest.raises(UsageError, match="not a Jupyter notebook"):
        run_notebook(tmp_path / "x.ipynb")


def test_a_missing_notebook_is_refused_with_the_nearest(toy):
    with pytest.raises(UsageError, match="Did you mean '.*05_toy.ipynb'"):
        run_notebook(toy.with_name("05_toi.ipynb"))


def test_a_notebook_is_found_by_name_and_by_slug(tmp_path, monkeypatch, root):
    for text in ("00_start_here", "start_here", "00_start_here.ipynb"):
        assert find_notebook(text) == root / "notebooks/00_start_here.ipynb"
    mine = tmp_path / "notebooks/00_start_here.ipynb"
    mine.parent.mkdir()
    mine.write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_notebook("start_here") == mine


def event(kind, **fields):
    return {"t": 0.0, "e": kind, **fields}


def test_exit_codes_follow_the_journal(tmp_path, capsys):
    opened = event("open", slug="a")
    done, left = event("close", complete=True, exit=0), event("close", complete=False, exit=3)
    failed = event("close", complete=True, exit=1)
    path = tmp_path / "x.ipynb"
    journals = [], [opened, done], [opened, left], [opened, failed]
    assert [exit_code(events, path) for events in journals] == [0, 0, 3, 1]
    both = [opened, left, event("open", slug="b"), done]
    assert exit_code(both, path) == 3
    assert exit_code([opened], path) == 1
    assert "ended without session.close() for a" in capsys.readouterr().err


def test_a_folder_store_is_given_in_full_and_a_url_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_address("st") == str(tmp_path / "st")
    assert store_address("memory://st") == "memory://st"
    monkeypatch.setenv("NBKIT_STORE", "other")
    assert store_address(None) == str(tmp_path / "other")


def test_papermill_is_imported_without_a_grammar_that_no_notebook_needs(root):
    """The grammar of web addresses was two thirds of every session's start in this process."""
    code = "import sys; from nbkit.tools.rehearsal.running import _import_papermill; _import_papermill()\n"
    code += "import papermill\n"
    code += "assert 'jsonschema' in sys.modules and 'lark' not in sys.modules and 'rfc3987_syntax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(root)})
