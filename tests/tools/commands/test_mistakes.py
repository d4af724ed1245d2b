"""Every mistake of docs/mistakes.md is made, and answered as the page says; a real script ends in a sentence, too."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import nbkit
from nbkit.ground.mistakes import _show
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.commands import cli
from nbkit.tools.notebooks import read_notebook
from nbkit.tools.status.listing import Listing
from nbkit.tools.status.status import read_phase

ROWS = re.findall(
    r"^\| `(.+?)` \| (.+?) \| (\d) \|$",
    (Path(__file__).resolve().parents[3] / "docs/mistakes.md").read_text("utf-8"),
    re.MULTILINE,
)
COMMANDS, KERNEL = [row for row in ROWS if row[0].startswith("nbkit ")], "--store tried"
IMPORTS = """import nbkit
from nbkit.neuro.decoding.compare import CompareSettings
from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.decoding.own_recordings import decode_recordings
from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.reading import read_recording
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("NBKIT_STORE", "NBKIT_LIMIT", "NBKIT_DRIVE_CREDENTIAL"):
        monkeypatch.delenv(name, raising=False)
    Path("a-file").write_text("x")
    Path("empty").mkdir()


def test_there_are_thirty_and_more():
    assert len(ROWS) >= 30 and len({mistake for mistake, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("mistake", "says", "code"),
    [row for row in COMMANDS if KERNEL not in row[0]],
    ids=[row[0] for row in COMMANDS if KERNEL not in row[0]],
)
def test_a_command_says_what_the_page_has(mistake, says, code, capsys):
    assert cli.run(shlex.split(mistake)[1:]) == int(code)
    said = " ".join(capsys.readouterr().err.split())
    assert says in said and "Traceback" not in said, said
    assert not Path("my-store").exists() and not Path("nbkit-store").exists(), "a mistake leaves nothing behind"


@pytest.mark.parametrize(
    ("mistake", "says", "code"),
    [row for row in ROWS if not row[0].startswith("nbkit ")],
    ids=[row[0] for row in ROWS if not row[0].startswith("nbkit ")],
)
def test_python_says_what_the_page_has(mistake, says, code, capsys):
    try:
        exec(IMPORTS + mistake, {"__name__": "__main__"})
    except Exception as error:
        with pytest.raises(SystemExit) as end:
            _show(type(error), error, error.__traceback__)
        said = capsys.readouterr().err
        assert end.value.code == int(code) and says in said and "Traceback" not in said, said
    else:
        pytest.fail("no mistake was found")
    assert not Path("my-store").exists()


@pytest.mark.rehearse  # a kernel each
@pytest.mark.parametrize(("mistake", "says", "code"), [row for row in COMMANDS if KERNEL in row[0]])
def test_a_run_says_what_the_page_has_and_leaves_no_session(mistake, says, code, tmp_path, capfd):
    assert cli.run(shlex.split(mistake)[1:]) == int(code)
    said = " ".join("".join(capfd.readouterr()).split())
    assert says in said and "Traceback" not in said and "  | " not in said, said
    phase = read_phase(Listing(FolderStore(tmp_path / "tried")), "bandvar_train", None, tmp_path / "cache")
    assert (phase.state, phase.sessions, phase.killed) == ("not begun", 0, 0)


def test_every_notebook_refuses_a_preset_and_a_setting_that_there_is_not(root):
    """Every class that a cell gives to ``nbkit.settings``; one of each through a kernel is above."""
    found = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = read_notebook(path)["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        names = set(re.findall(r"nbkit\.settings\(([A-Z]\w+)", code))
        homes = {name: re.search(rf"from (\S+) import [^\n]*\b{name}\b", code) for name in names}
        found |= {(home[1], name): None for name, home in homes.items()}
    assert len(found) > 20
    for module, name in found:
        cls = getattr(importlib.import_module(module), name)
        for wrong in ({"preset": "huge"}, {"overrides": {"nosuch": 1}}, {"overrides": {fields(cls)[0].name: object()}}):
            with pytest.raises(UsageError, match=rf"^{name}.*Nothing was begun\.$"):
                nbkit.settings(cls, **wrong)


SCRIPT = """import atexit, sys
from nbkit.neuro.signals.bands import effective_bands

atexit.register(print, "what is registered runs")


def mine():
    raise ValueError("my own")


if sys.argv[1] == "mine":
    mine()
effective_bands([(8.0, 4.0)], 100.0)
"""


def run_script(tmp_path, root, which: str, **more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mine.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(root)} | more
    command = [sys.executable, "mine.py", which]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


def test_a_script_ends_in_a_sentence_and_its_own_line(tmp_path, root):
    done = run_script(tmp_path, root, "nbkit")
    assert done.returncode == 2 and done.stdout == "what is registered runs\n"
    assert done.stderr.splitlines() == [
        "error: Band (8, 4) Hz is no band; 0 <= l_freq < h_freq is needed.",
        "  mine.py, line 13: effective_bands([(8.0, 4.0)], 100.0)",
        "NBKIT_TRACEBACK=1 shows the whole traceback.",
    ]


@pytest.mark.parametrize(("which", "more"), [("mine", {}), ("nbkit", {"NBKIT_TRACEBACK": "1"})])
def test_errors_of_ones_own_and_on_request_have_a_traceback(tmp_path, root, which, more):
    done = run_script(tmp_path, root, which, **more)
    assert done.returncode == 1 and "Traceback" in done.stderr and "ValueError" in done.stderr
