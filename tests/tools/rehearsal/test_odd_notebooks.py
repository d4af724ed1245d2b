"""Notebooks of odd origin and with odd cells: they run, or are refused in words."""

from __future__ import annotations

import json

import pytest

from nbkit.tools.parameters import parse_parameters
from nbkit.tools.rehearsal.running import run_notebook
from tests.conftest import CLOSE, OPEN, ROOT

pytestmark = pytest.mark.rehearse

# name: exit code, what stands in the output or the message, parameters
CASES = {
    "bom": (0, "steps 5", ["STEPS=5"]),
    "colabmeta": (0, "steps 5", ["STEPS=5"]),
    "dies": (1, "the kernel died, most often because memory ran out", []),
    "exit0": (0, "stopped  complete", []),
    "expected": (0, "after", []),
    "expr": (0, "steps 2048", ["FOLDER=2024_1"]),
    "input": (2, "Cell 2 asks for input, and nobody can answer during a run", []),
    "magic": (2, "line 3, '%env A=1', is not Python", []),
    "noids": (0, "steps 5", ["STEPS=5"]),
    "nolang": (0, "steps 5", ["STEPS=5"]),
    "surrogate": (0, "stopped  complete", []),
    "typed": (0, "steps 5", ["STEPS=5", "RATE=1"]),
    "widget": (0, "stopped  complete", []),
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def cases():
    folder = ROOT.parent / "shared" / "cases" / "40-notebooks"
    if not folder.is_dir():
        pytest.skip("the awkward notebooks (../shared/cases/40-notebooks) are not here")
    return folder


def test_every_notebook_of_the_cases_is_expected_here(cases):
    assert sorted(path.stem for path in cases.iterdir()) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_notebook_of_the_cases_runs_or_is_refused_in_words(cases, name, tmp_path, capfd):
    from nbkit.tools.commands.cli import run

    code, words, parameters = CASES[name]
    options = [option for text in parameters for option in ("-p", text)]
    assert run(["run", str(cases / f"{name}.ipynb"), "--store", str(tmp_path / "store"), *options]) == code
    said = "".join(capfd.readouterr())
    assert words in said and "not here" not in said
    assert "Traceback" not in said


def tag(path, cell, name):
    content = json.loads(path.read_text())
    content["cells"][cell]["metadata"]["tags"] = [name]
    path.write_text(json.dumps(content))


def test_an_expected_error_is_none_and_leaves_no_mark_but_the_next_one_is(make_notebook, tmp_path, capsys):
    path = make_notebook("FAIL = False\nSMOKE = False", OPEN, "1 / 0", CLOSE, "if FAIL:\n    [][1]", name="a{b}.ipynb")
    tag(path, 2, "raises-exception")
    assert run_notebook(path, store=tmp_path / "store", quiet=True) == 0
    (executed,) = (tmp_path / "store/toy/sessions").glob("*.ipynb")
    assert "ZeroDivisionError" in executed.read_text() and "papermill-error-cell" not in executed.read_text()
    assert run_notebook(path, parse_parameters(["FAIL=true"]), store=tmp_path / "store", quiet=True) == 1
    said = capsys.readouterr().err
    assert "raised IndexError" in said and "ZeroDivisionError" not in said


def test_half_a_character_takes_no_output_with_it(make_notebook, tmp_path, capsys):
    path = make_notebook("SMOKE = False", OPEN, "print('before \\ud83d after')", CLOSE)
    assert run_notebook(path, store=tmp_path / "store") == 0
    said = capsys.readouterr()
    assert "before ? after" in said.out and "stopped  complete" in said.out and "Traceback" not in said.err


def test_an_executed_copy_runs_again_with_the_values_of_its_run(make_notebook, tmp_path, capsys):
    path = make_notebook("A = 1\nB = 1\nSMOKE = False", OPEN, "print('A, B =', A, B)", CLOSE)
    assert run_notebook(path, {"A": 2}, store=tmp_path / "store", quiet=True) == 0
    (executed,) = (tmp_path / "store/toy/sessions").glob("*.ipynb")
    assert run_notebook(executed, {"B": 3}, store=tmp_path / "store") == 0
    assert "A, B = 2 3" in capsys.readouterr().out
