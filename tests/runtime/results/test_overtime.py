"""What follows the work ends at the wall: in a script, in a notebook, and never between cells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from nbkit.runtime.budget import Budget
from nbkit.runtime.closing import expect_closing
from nbkit.runtime.results.overtime import Overtime
from nbkit.tools.rehearsal.running import run_notebook

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs signals")

SCRIPT = """
import sys, time
import nbkit, psutil
age = time.time() - psutil.Process().create_time()  # the limit counts from there, and imports may take long
session = nbkit.open_session("toy", store=sys.argv[1], limit=age + 2.5)
for item in session.work([{"key": "one"}]):
    with item:
        item.save(x=[1.0])
began, wall = time.monotonic(), session.budget.wall()
try:
    while time.monotonic() < began + 30:  # scores that take far too long
        sum(range(1000))
finally:
    print("LATE", round(time.monotonic() - began - wall, 2))
"""


def closing_of(folder: Path) -> dict:
    lines = (folder / "journal").read_text().splitlines()
    return next(event for event in map(json.loads, lines) if event["e"] == "close")


def test_a_script_ends_at_the_wall_and_closes_with_work_left(tmp_path: Path) -> None:
    environment = {**os.environ, "NBKIT_JOURNAL": str(tmp_path / "journal")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "store")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    late = float(done.stdout.split("LATE ")[1].split()[0])
    assert -2.5 < late < 5.0
    assert "The time limit is reached in a cell after the work" in done.stdout
    closed = closing_of(tmp_path)
    assert (closed["complete"], closed["exit"], closed["reason"], closed["done"]) == (False, 3, "wall", 1)


def test_a_notebook_ends_at_the_wall_with_exit_code_3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cells = [
        "STORE = None\nLIMIT = None",
        'import nbkit\nsession = nbkit.open_session("toy", store=STORE, limit=LIMIT)',
        'for item in session.work([{"key": "one"}]):\n    with item:\n        item.save(x=[1.0])',
        "import time\nbegan = time.monotonic()\nwhile time.monotonic() < began + 30:\n    time.sleep(0.01)",
        'open("too_late", "w")',
        "summary = session.close()",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(book, tmp_path / "05_toy.ipynb")
    began = time.monotonic()
    code = run_notebook(tmp_path / "05_toy.ipynb", store=str(tmp_path / "store"), limit="4s", folder=tmp_path / "work")
    assert code == 3 and time.monotonic() - began < 25
    assert not list(tmp_path.rglob("too_late"))
    said = "".join(capfd.readouterr())
    assert "The time limit is reached" in said and "To exit" not in said


def test_a_callback_after_a_cell_is_not_ended_which_would_end_the_kernel(tmp_path: Path) -> None:
    """Matplotlib draws in such a callback; an exit that is raised there goes through the kernel's own loop."""
    cells = [
        "STORE = None\nLIMIT = None",
        'import nbkit\nsession = nbkit.open_session("toy", store=STORE, limit=LIMIT)',
        'for item in session.work([{"key": "one"}]):\n    with item:\n        item.save(x=[1.0])',
        "import time\nshell = get_ipython()",
        "shell.events.register('post_execute', lambda: time.sleep(max(0.0, session.budget.wall() + 1)))",
        "summary = session.close()",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(book, tmp_path / "05_toy.ipynb")
    code = run_notebook(tmp_path / "05_toy.ipynb", store=str(tmp_path / "store"), limit="4s", folder=tmp_path / "work")
    assert code in (0, 3), "1: the kernel died"


def test_between_cells_nothing_is_interrupted() -> None:
    closed = []
    overtime = Overtime(Budget(0.3), print, lambda: closed.append(True))
    before = signal.getsignal(signal.SIGALRM)
    overtime.begin()
    overtime._cell_ends()  # a person looks at the figures
    time.sleep(0.8)
    assert not overtime.cut and closed == []
    with pytest.raises(SystemExit):
        overtime._cell_begins()
        time.sleep(2.0)
    overtime._cell_ends()
    assert overtime.cut and closed == [True]
    overtime.stop()
    assert signal.getsignal(signal.SIGALRM) == before


def test_an_exit_that_a_callback_of_pythons_swallowed_ends_the_next_cell() -> None:
    closed = []
    overtime = Overtime(Budget(0.3), print, lambda: closed.append(True))
    overtime.begin()
    with pytest.raises(SystemExit):
        time.sleep(2.0)
    overtime._cell_ends(SimpleNamespace(success=True))  # as if the exit had been raised where Python ignores it
    assert overtime.cut and closed == []
    with pytest.raises(SystemExit):
        overtime._cell_begins()
        time.sleep(2.0)
    overtime._cell_ends(SimpleNamespace(success=False))
    assert closed == [True]
    overtime.stop()


@pytest.mark.parametrize(
    ("load", "closing", "kept"),
    [(0.0, 0.0, 1.0), (8.0, 0.0, 4.0), (8.0, 6.0, 9.0), (500.0, 0.0, 15.0), (1.0, 2.0, 3.0)],
)
def test_more_is_kept_on_a_busy_machine_and_where_closing_took_long(monkeypatch, load, closing, kept) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    clock = [0.0]
    budget = Budget(3600.0, 0.0, lambda: clock[0])
    expect_closing(budget, [{"open": {}}, {"close": {"closing": closing, "ending": 100.0}}, {"close": {}}])
    overtime = Overtime(budget, print, lambda: None)
    assert overtime._kept() == pytest.approx(kept)
    clock[0] = 3600.0 - kept - 0.5
    assert not overtime._at_wall()
    clock[0] += 1.0
    assert overtime._at_wall()


def test_without_a_limit_or_work_nothing_is_watched() -> None:
    before = signal.getsignal(signal.SIGALRM)
    overtime = Overtime(Budget(None), print, lambda: None)
    overtime.begin()
    overtime.stop()
    assert signal.getsignal(signal.SIGALRM) == before
