"""Every notebook keeps to the form, and runs from top to bottom with SMOKE on.

A notebook is where a person reads; what wants to become logic moves to a function with a test.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nbkit.ground.stand_in import is_made_up
from nbkit.tools.phases import Phase, find_phase, load_phases
from nbkit.tools.rehearsal.running import run_notebook
from tests.stripping import stored

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
CODE_CELLS, CELL_LINES, PARAMETER_LINES, SET_UP_LINES, CODE_LINES = 12, 12, 26, 5, 100
CARD = ("Needs", "Makes", "Sessions", "Figures")
FORBIDDEN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Try, ast.While)
_PATH = re.compile(r"""["'](/|~|[A-Za-z]:\\)[\w.]""")

Notebook = dict[str, Any]


def source(cell: dict[str, Any]) -> str:
    """Return a cell's text."""
    return "".join(cell["source"])


def code_lines(cell: dict[str, Any]) -> list[str]:
    """Return the lines of a code cell that are not empty."""
    return [line for line in source(cell).splitlines() if line.strip()]


def parsed(cell: dict[str, Any]) -> ast.Module:
    """Return a code cell's syntax tree; lines for IPython alone are left out."""
    return ast.parse("\n".join("" if line.startswith(("%", "!")) else line for line in source(cell).splitlines()))


def form_faults(notebook: Notebook, phase: Phase) -> list[str]:
    """Return all that keeps a notebook from the form."""
    own = [*_file_faults(notebook), *_cell_faults(notebook)]
    return [*own, *_order_faults(notebook, phase), *_card_faults(notebook, phase)]


def _file_faults(notebook: Notebook) -> Iterator[str]:
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec is not python3: papermill dies before the first cell"
    if (notebook["nbformat"], notebook["nbformat_minor"]) < (4, 5):
        yield "nbformat below 4.5 has no cell ids"
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) != len(ids):
        yield "cells without an id of their own"
    for name in ids:
        if name is not None and re.fullmatch(r"[0-9a-f]{8,}|[0-9a-f-]{36}", name):
            yield f"the id {name} is a random one; give it a name that stays"


def _cell_faults(notebook: Notebook) -> Iterator[str]:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if len(code) > CODE_CELLS:
        yield f"{len(code)} code cells; {CODE_CELLS} at most"
    total = sum(len(code_lines(cell)) for cell in code)
    if total > CODE_LINES:
        yield f"{total} lines of code; {CODE_LINES} at most"
    for cell in code:
        where = f"cell {cell.get('id')}"
        most = PARAMETER_LINES if "parameters" in cell["metadata"].get("tags", []) else CELL_LINES
        if len(code_lines(cell)) > most:
            yield f"{where} has {len(code_lines(cell))} lines; {most} at most"
        if cell["outputs"] or cell["execution_count"] is not None:
            yield f"{where} has outputs or an execution count"
        for node in ast.walk(parsed(cell)):
            if isinstance(node, FORBIDDEN):
                yield f"{where} has a {type(node).__name__}: it belongs in a function with a test"
            if isinstance(node, ast.If) and cell is not code[0]:
                yield f"{where} has an if"
        if _PATH.search(source(cell)):
            yield f"{where} holds an absolute path"
        if any(len(line) > 120 for line in source(cell).splitlines()):
            yield f"{where} has a line of more than 120 characters"


def _order_faults(notebook: Notebook, phase: Phase) -> Iterator[str]:
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        yield "does not begin with its title"
    if code and len(code_lines(code[0])) > SET_UP_LINES:
        yield f"the set-up cell has more than {SET_UP_LINES} lines"
    tagged = [i for i, cell in enumerate(code) if "parameters" in cell["metadata"].get("tags", [])]
    if tagged != [1]:
        yield "the second code cell, and no other, is tagged 'parameters'"
    else:
        yield from _parameter_faults(code[1])
    opens = [i for i, cell in enumerate(code) if "open_session(" in source(cell)]
    if len(opens) != 1 or f'"{phase.slug}"' not in source(code[opens[0]]):
        yield f"no cell, or more than one, opens a session of {phase.slug!r}"
    if not code or "session.close()" not in source(code[-1]):
        yield "the last code cell does not close the session"
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if cell["cell_type"] == "code" and "session.figure(" in source(cell):
            words = source(after) if after is not None and after["cell_type"] == "markdown" else ""
            if "You should see" not in words or "if instead" not in words.lower():
                yield f"after cell {cell.get('id')}: no 'You should see ...; if instead ..., then ...'"


def _parameter_faults(cell: dict[str, Any]) -> Iterator[str]:
    names = []
    for statement in parsed(cell).body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            yield "the parameters cell holds more than assignments"
            continue
        names.append(statement.targets[0].id)
        try:
            value = ast.literal_eval(statement.value)
        except ValueError:
            yield f"parameter {names[-1]} is no literal"
            continue
        if names[-1] == "SMOKE" and value is not False:
            yield "SMOKE is not False"
        if not names[-1].isupper():
            yield f"parameter {names[-1]} is not in capitals"
    if names[-1:] != ["SMOKE"]:
        yield "the last parameter is not SMOKE"
    for line in code_lines(cell):
        if "#" not in line:
            yield f"no unit or word beside {line.strip()!r}"


def _card_faults(notebook: Notebook, phase: Phase) -> Iterator[str]:
    rows = dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+?) \|$", source(notebook["cells"][0]), re.MULTILINE))
    if tuple(rows) != CARD:
        yield f"the title card has the rows {list(rows)}, not {list(CARD)}"
        return
    for need in phase.needs:
        name = find_phase(need).notebook.removesuffix(".ipynb")
        if name not in rows["Needs"]:
            yield f"the title card does not say that it needs {name}"
    on_card = re.findall(r"`([\w-]+)`", rows["Figures"])
    drawn = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(parsed(cell)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "session.figure":
                    drawn.append(ast.literal_eval(node.args[1]))
    if not on_card == drawn == list(phase.figures):
        yield f"figures differ: on the card {on_card}, drawn {drawn}, in phases.toml {list(phase.figures)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_to_the_form(path):
    notebook = json.loads(stored(path.read_text("utf-8")))  # one that was run in this checkout is as good
    number, _, slug = path.stem.partition("_")
    phase = find_phase(slug)
    assert int(number) == phase.number
    assert form_faults(notebook, phase) == []


def test_git_holds_notebooks_without_outputs(root):
    """Also where the filter of ``make setup`` did not run; in Jupyter's form, so that a save changes no other line."""
    listed = subprocess.run(["git", "ls-files", "notebooks/*.ipynb"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    faults = []
    for name in listed.stdout.split():
        text = subprocess.run(["git", "show", f":{name}"], cwd=root, capture_output=True, check=True).stdout.decode()
        faults += [name] * (text != stored(text))
    assert faults == [], "python -m tests.stripping < NOTEBOOK writes what git should hold"


def test_every_phase_has_its_notebook():
    assert [path.name for path in NOTEBOOKS] == [phase.notebook for phase in load_phases()]


# -- the probe can fail ---------------------------------------------------------------------------------------------


def cell(kind: str, name: str, text: str, *tags: str) -> dict[str, Any]:
    more = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "id": name, "metadata": {"tags": list(tags)} if tags else {}, "source": text, **more}


TOY = Phase("toy", 5, "Toy", "", ("eeg_windows",), (), "any", 1, 1.0, True, ("loss",), ())
TITLE = (
    "# 05 Toy\n\n| | |\n|---|---|\n| **Needs** | `10_eeg_windows` |\n| **Makes** | nothing |\n| **Sessions** | 1 |\n"
    "| **Figures** | `loss` |"
)
GOOD: Notebook = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3"}},
    "cells": [
        cell("markdown", "title", TITLE),
        cell("code", "set-up", "%matplotlib inline\nimport nbkit"),
        cell("code", "parameters", "STEPS = 3  # steps\nSMOKE = False  # small", "parameters"),
        cell("code", "open", 'session = nbkit.open_session("toy", smoke=SMOKE)'),
        cell("code", "figure", 'session.figure(plot(), "loss")'),
        cell("markdown", "figure-read", "You should see a line; if instead nothing, then look again."),
        cell("code", "close", "session.close()"),
    ],
}


def test_the_form_probe_passes_a_good_notebook():
    assert form_faults(GOOD, TOY) == []


def changed(position: int, text: str | None = None, **fields: Any) -> Notebook:
    notebook = copy.deepcopy(GOOD)
    if text is not None:
        notebook["cells"][position]["source"] = text
    notebook["cells"][position].update(fields)
    return notebook


def with_cells(*cells: dict[str, Any], at: int = 4) -> Notebook:
    notebook = copy.deepcopy(GOOD)
    notebook["cells"][at:at] = cells
    return notebook


WRONG = {
    "no kernelspec": {**GOOD, "metadata": {}},
    "old format": {**GOOD, "nbformat_minor": 4},
    "id twice": changed(1, id="title"),
    "random id": changed(1, id="0a1b2c3d"),
    "too many cells": with_cells(*[cell("code", f"c{i}", "x = 1") for i in range(9)]),
    "too long a cell": with_cells(cell("code", "c", "x = 1\n" * 13)),
    "too much code": with_cells(*[cell("code", f"c{i}", "x = 1\n" * 12) for i in range(9)]),
    "too many parameters": changed(2, "A = 1  # a\n" * 26 + "SMOKE = False  # small"),
    "too long a set-up": changed(1, "import nbkit\n" * 6),
    "outputs": changed(3, outputs=[{"output_type": "stream"}]),
    "execution count": changed(3, execution_count=3),
    "def": with_cells(cell("code", "c", "def f():\n    return 1")),
    "class": with_cells(cell("code", "c", "class C:\n    x = 1")),
    "lambda": with_cells(cell("code", "c", "f = lambda: 1")),
    "try": with_cells(cell("code", "c", "try:\n    x = 1\nfinally:\n    x = 2")),
    "while": with_cells(cell("code", "c", "while SMOKE:\n    break")),
    "if": with_cells(cell("code", "c", "if SMOKE:\n    x = 1")),
    "absolute path": with_cells(cell("code", "c", 'path = "/' + 'data/x.edf"')),
    "long line": with_cells(cell("code", "c", f"x = {'1' * 130}")),
    "no title": changed(0, TITLE[2:]),
    "no tag": changed(2, metadata={}),
    "SMOKE is on": changed(2, "STEPS = 3  # steps\nSMOKE = True  # small"),
    "SMOKE is not last": changed(2, "SMOKE = False  # small\nSTEPS = 3  # steps"),
    "no literal": changed(2, "STEPS = int(3)  # steps\nSMOKE = False  # small"),
    "no unit": changed(2, "STEPS = 3\nSMOKE = False  # small"),
    "small letters": changed(2, "steps = 3  # steps\nSMOKE = False  # small"),
    "another slug": changed(3, 'session = nbkit.open_session("other")'),
    "not closed": changed(6, "print(1)"),
    "no words after the figure": changed(5, "A figure."),
    "no 'if instead'": changed(5, "You should see a line."),
    "no card": changed(0, "# 05 Toy"),
    "a need is not on the card": changed(0, TITLE.replace("`10_eeg_windows`", "nothing")),
    "figure not on the card": changed(0, TITLE.replace("`loss`", "none")),
    "another figure": changed(4, 'session.figure(plot(), "curve")'),
}


@pytest.mark.parametrize("notebook", WRONG.values(), ids=WRONG.keys())
def test_the_form_probe_fails_on(notebook):
    assert form_faults(notebook, TOY)


# -- they run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_store(tmp_path_factory) -> Path:
    """A folder store in which the notebooks follow each other."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.notebook
@pytest.mark.timeout(240)  # a guard against hanging; tests/bench/bench_notebooks.py measures the promised 60 s
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_smoke_on(path, one_store, capsys):
    code = run_notebook(path, store=one_store / "store", smoke=True, folder=one_store / path.stem)
    said = capsys.readouterr()
    assert code == 0, said.out[-3000:] + said.err[-3000:]
    phase = find_phase(path.stem.partition("_")[2])
    figures = {file.stem: file.stat().st_size for file in (one_store / "store" / phase.slug / "figures").glob("*.png")}
    assert set(figures) == set(phase.figures) and all(size > 5000 for size in figures.values())
    results = one_store / "store" / phase.slug / "results.json"
    stored = json.loads(results.read_text()) if results.is_file() else {"metrics": {}}
    assert set(phase.scores) <= set(stored["metrics"]), sorted(stored["metrics"])
    if is_made_up(stored.get("data", "")):
        for file in (one_store / "store" / phase.slug / "figures").glob("*.png"):
            with Image.open(file) as image:
                assert stored["data"] in image.text["Description"], f"{file.name} does not say what it rests on"
