"""One session through papermill: parameters, kernel, exit codes, words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.signals import ENDING
from nbkit.runtime.store.opening import store_address
from nbkit.tools.kaggle.copy import pushed_copy, require_names
from nbkit.tools.notebooks import find_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters, parse_parameters
from nbkit.tools.rehearsal.machine import ThisMachine
from nbkit.tools.rehearsal.running import exit_code, run_notebook
from tests.conftest import CLOSE, OPEN, PARAMETERS, WORK

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


def test_typed_store_limit_and_steps_are_taken_from_the_command_line(make_notebook, tmp_path):
    """An annotated STORE or LIMIT was not seen, and the option for it was silently ignored."""
    notebook = make_notebook(
        'STORE: str = "elsewhere"\nLIMIT: str = "9" + "h"\nSTEPS: int = 3\nNAME: str | None = None\nSMOKE: bool=False',
        OPEN.replace("smoke=", "store=STORE, limit=LIMIT, smoke="),
        CLOSE + "\nassert session.budget.limit == 30 and (STEPS, NAME, SMOKE) == (5, '2024', True)",
    )
    given = parse_parameters(["STEPS=5", "NAME=2024", "SMOKE=true"])
    assert run_notebook(notebook, given, store=tmp_path / "store", limit="30s", quiet=True) == 0
    assert (tmp_path / "store/toy/ledger").is_dir() and not (tmp_path / "here/elsewhere").exists()


NESTED = {"BANDS": "{'a': (8, 13)}", "KEYS": "{1: 'b', 'c': 2}", "RUNS": "[(3, 4), {5}]", "PAIR": "(3, 4)"}


def test_a_kernel_gets_nested_values_as_they_were_typed(make_notebook, tmp_path):
    """Papermill made texts of the tuples and keys, and a rehearsal made lists of the tuples."""
    wanted = {name: eval(text) for name, text in NESTED.items()}
    out = tmp_path / "out"
    told = f"open({str(out)!r}, 'a').write(repr([BANDS, KEYS, RUNS, PAIR]) + chr(10))"
    notebook = make_notebook("BANDS = {'a': (8, 12)}\nKEYS = {1: 'a'}\nRUNS = [(1, 2)]\nPAIR = (1, 2)", told)
    given = parse_parameters([f"{name}={text}" for name, text in NESTED.items()])
    assert run_notebook(notebook, given, store=tmp_path / "store", quiet=True) == 0
    checked = check_parameters(notebook, notebook_parameters(notebook), given)
    machine = ThisMachine(str(tmp_path / "store"), tmp_path, {notebook: checked})
    command, _, _ = machine.prepare(notebook, 20.0, tmp_path, {})
    passed = parse_parameters([after for option, after in pairwise(command) if option == "-p"])
    assert check_parameters(notebook, notebook_parameters(notebook), passed) == wanted
    exec("".join(cell["source"] + "\n" for cell in pushed_copy(notebook, given, None)["cells"]))
    assert out.read_text().splitlines() == [repr(list(wanted.values()))] * 2


def test_a_store_that_the_notebook_fixes_is_refused_in_every_command(make_notebook, tmp_path):
    notebook = make_notebook("STORE = LIMIT = None", OPEN.replace("smoke=SMOKE", "'own'"))
    with pytest.raises(UsageError, match="cell 2 .* store='own', so --store .* would have no effect"):
        run_notebook(notebook, store=tmp_path / "store")
    with pytest.raises(UsageError, match="so --store .* would have no effect"):
        ThisMachine(str(tmp_path / "store"), tmp_path).prepare(notebook, 20.0, tmp_path, {})
    with pytest.raises(UsageError, match="so the STORE of this command would have no effect"):
        require_names(notebook, ("STORE", "LIMIT"))


def test_the_notebooks_own_store_counts_where_nothing_else_is_said(make_notebook, tmp_path):
    notebook = make_notebook('STORE = "mine"\nSMOKE = False', OPEN.replace("smoke=", "store=STORE, smoke="), CLOSE)
    assert run_notebook(notebook, quiet=True) == 0
    assert list((tmp_path / "here/mine/toy/sessions").glob("*.ipynb")) and not (tmp_path / "here/nbkit-store").exists()


@pytest.mark.parametrize(
    ("options", "given"),
    [({"store": "a"}, {"STORE": "b"}), ({"limit": "9h"}, {"LIMIT": "8h"}), ({"smoke": True}, {"SMOKE": False})],
)
def test_an_option_and_a_parameter_that_contradict_each_other_are_refused(make_notebook, options, given):
    notebook = make_notebook("STORE = None\nLIMIT = None\nSMOKE = False")
    with pytest.raises(UsageError, match="contradict each other"):
        run_notebook(notebook, given, **options)


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


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_to_the_command_reaches_the_session_which_closes(number, make_notebook, tmp_path, root):
    """As a container does, which signals its first process only."""
    notebook = make_notebook(PARAMETERS, OPEN, WORK, CLOSE)
    journal = tmp_path / "journal.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "nbkit", "run", str(notebook), "-p", "N=400", "-p", "SECONDS=0.1", "--store", "store"],
        env=os.environ | {"PYTHONPATH": str(root), "NBKIT_JOURNAL": str(journal)}, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL), start_new_session=True,
    )  # fmt: skip
    while not journal.is_file() or '"e": "item"' not in journal.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3, "it stopped with work left, as before the wall"
    assert f"stopped  {signal.Signals(number).name}" in out
    assert any('"e": "close"' in line for line in journal.read_text().splitlines())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", ""])
def test_a_kernel_that_dies_while_it_starts_is_told(toy, tmp_path, monkeypatch, capsys, name):
    def start(*given, **options):
        raise RuntimeError("Kernel died before replying to kernel_info")

    @contextlib.contextmanager
    def handing_on():
        yield [name] if name else []

    monkeypatch.setattr("papermill.execute_notebook", start)
    monkeypatch.setattr("nbkit.tools.rehearsal.running.handing_on", handing_on)
    assert run_notebook(toy, store=tmp_path / "store", quiet=True) == (3 if name else 1)
    said = capsys.readouterr().err
    assert (f"{name} ended the run while its kernel was starting" if name else "the kernel died") in said


def test_another_error_of_the_kernels_start_is_shown_as_it_is(toy, tmp_path, monkeypatch):
    def start(*given, **options):
        raise RuntimeError("another")

    monkeypatch.setattr("papermill.execute_notebook", start)
    with pytest.raises(RuntimeError, match="another"):
        run_notebook(toy, store=tmp_path / "store", quiet=True)
