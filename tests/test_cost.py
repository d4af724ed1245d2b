"""The cost of tests: who pays much without a mark is named, and a quick run leaves the marked ones out unread."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from tests import cost
from tests.conftest import turn

BURN = "import resource\ndef burn():\n    end = resource.getrusage(resource.RUSAGE_SELF).ru_utime + 0.3\n"
BURN += "    while resource.getrusage(resource.RUSAGE_SELF).ru_utime < end:\n        pass\n"
LIGHT = "import time\n\ndef test_waits():\n    time.sleep(0.5)\n"
HEAVY = f"import pytest\n{BURN}\ndef test_burns():\n    burn()\n\n@pytest.mark.train\ndef test_trains():\n    burn()\n"
CHILD = "import subprocess, sys\n\ndef test_child():\n"
CHILD += f"    subprocess.run([sys.executable, '-c', {BURN + 'burn()'!r}])\n"
KILL = "import pytest\n\n@pytest.mark.kill\ndef test_kills():\n    pass\n"
WHOLE = "import pytest\n\npytestmark = pytest.mark.browser\nraise SystemExit('this file was imported')\n"
# what is about trainings and torch's threads
OF_TORCH = (
    "tests/runtime/training",
    "tests/runtime/items/test_chosen_tensors.py",
    "tests/runtime/test_threads.py",
    "tests/runtime/results/test_on_device.py",
    "tests/runtime/beside/test_two_trainers.py",
    "tests/ground/test_fields.py",
)


@pytest.fixture
def run(tmp_path, root):
    """Return a function that runs files of tests under a limit of 0.1 s, and gives what pytest printed."""

    def run_files(*options: str, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(text)
        marks = "\n".join(f"  {kind}: costs" for kind in cost.KINDS)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\nmarkers =\n{marks}\n")
        (tmp_path / "conftest.py").write_text("from tests import cost\nfrom tests.cost import *\ncost.LIMIT_S = 0.1\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        environment = {"PYTHONPATH": str(root), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    return run_files


def named(printed: str) -> set[str]:
    """Return the tests in the list of those that cost much without a mark."""
    _, head, rest = printed.partition("more than 0.1 s of processor time without a mark")
    lines = rest.partition("Make each cheaper")[0].splitlines()[1:] if head else []
    return {line.split(" s ")[1] for line in lines}


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["one process", "two processes"])
def test_processor_time_of_the_process_and_its_children_counts_and_waiting_is_free(run, workers):
    printed = run(*workers, light=LIGHT, heavy=HEAVY, child=CHILD)
    assert "4 passed" in printed
    assert named(printed) == {"test_heavy.py::test_burns", "test_child.py::test_child"}


def test_nothing_is_printed_where_no_test_costs_much(run):
    printed = run(light=LIGHT)
    assert "1 passed" in printed and "processor time" not in printed


def test_a_quick_run_leaves_out_marked_tests_and_does_not_import_a_file_of_them(run):
    printed = run("--quick", light=LIGHT, heavy=KILL, whole=WHOLE)
    assert "1 passed, 1 deselected" in printed and "this file was imported" not in printed


def test_the_kinds_are_those_of_the_markers(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    named = [marker.partition(":")[0] for marker in settings["markers"]]
    assert named == [*cost.KINDS, "bench"] and "--strict-markers" in settings["addopts"]


def test_what_forks_runs_before_what_leaves_threads_behind(root):
    for name in ("tests/runtime/items/test_dask.py", "tests/tools/report/test_report_browser.py"):
        assert (root / name).is_file() and turn(f"{name}::test_x") == 2
    assert turn("tests/runtime/items/test_kill_storm.py::test_x") == turn("tests/tools/rehearsal/test_running.py") == 0
    assert turn("tests/test_notebooks_form.py::test_x[a]") == 1 and turn("tests/neuro/nn/test_scan.py::test_x") == 2


@pytest.mark.rehearse
def test_what_does_not_train_is_collected_without_a_large_library(root):
    """A file that imports torch at its head makes everybody wait who runs the tests beside it."""
    ignored = [option for name in OF_TORCH for option in ("--ignore", name)]
    told = ["--collect-only", "-qq", "-p", "no:xdist", *ignored, "tests/runtime", "tests/tools", "tests/ground"]
    code = (
        f"import pytest, sys; code = pytest.main({told!r}); print(); "
        "print('collected', int(code), [m for m in ('torch', 'lightning', 'mne', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.endswith("collected 0 []\n"), done.stdout[-2000:] + done.stderr[-2000:]
