"""What a cell shows of a mistake, in a real IPython shell; and whose errors keep their traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SHELL = """
import contextlib, io, json, sys
from IPython.core.interactiveshell import InteractiveShell

shell, shown = InteractiveShell.instance(colors="nocolor"), []
for cell in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        shell.run_cell(cell)
    shown.append(said.getvalue())
json.dump(shown, sys.stdout)
"""
BEGIN = "from nbkit.runtime.cells.sentences import show_mistakes_as_sentences\nshow_mistakes_as_sentences()"
DEFINED = "import numpy as np\ndef mine(window):\n    raise ValueError('my own')"
# the handler of SIGINT that Python itself has, which leaves no frame of its own
UNDER_NBKIT = """import shutil, signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from nbkit.ground.files import write_atomically
interrupt = partial(signal.default_int_handler, 2)"""
CELLS = {
    "an error of nbkit's": "import nbkit\n\nnbkit.open_session('../up')",
    "a wrong parameter of a model": "from nbkit.neuro.decoding.models.table import spec_of\nspec_of('nope')",
    "an error of the user's": "mine(3)",
    "the user's error below a call of nbkit's": (
        "from nbkit.ground.files import write_atomically\nfrom pathlib import Path\nwrite_atomically(Path('x'), mine)"
    ),
    "an error of a library": "np.zeros(3).reshape(2)",
    "a package of an extra": "import sys\nsys.modules['peft'] = None\nimport peft",
    "a package of none": "import no_such_package",
    "an interrupt of an import": "open('slow.py', 'w').write('raise KeyboardInterrupt')\nimport slow",
    "an interrupt of the user's code": "def wait():\n    raise KeyboardInterrupt\nwait()",
    "an interrupt of nbkit at work": f"{UNDER_NBKIT}\nwrite_atomically(Path('y'), interrupt)",
    "an interrupt of a library at work for nbkit": (
        f"{UNDER_NBKIT}\nwrite_atomically(Path('y'), partial(shutil.copyfileobj, SimpleNamespace(read=interrupt)))"
    ),
    "an interrupt of the user's code under nbkit": (
        f"{UNDER_NBKIT}\ndef stopped(file):\n    interrupt(file)\nwrite_atomically(Path('y'), stopped)"
    ),
    "after all": "print(1 + 1)",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, str]:
    cells = json.dumps([BEGIN, DEFINED, *CELLS.values()])
    done = subprocess.run(
        [sys.executable, "-c", SHELL, cells],
        capture_output=True, text=True, timeout=120, cwd=tmp_path_factory.mktemp("cells"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(CELLS, json.loads(done.stdout)[2:], strict=True))


@pytest.mark.parametrize(
    ("case", "says", "line"),
    [
        (
            "an error of nbkit's",
            "UsageError: Phase slug '../up' is not valid",
            "Line 3 of this cell: nbkit.open_session('../up')",
        ),
        (
            "a wrong parameter of a model",
            "UsageError: There is no foundation model 'nope'",
            "Line 2 of this cell: spec_of",
        ),
        ("a package of an extra", "nbkit install decoding", "Line 3 of this cell: import peft"),
        ("an interrupt of an import", "restart the kernel and run all cells", "Line 2 of this cell: import slow"),
    ],
)
def test_a_mistake_is_a_sentence_and_the_line_of_the_cell(shown, case, says, line):
    text = shown[case]
    assert says in text and line in text, text
    assert len(text.strip().splitlines()) == 2 and "File " not in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("an error of the user's", "raise ValueError('my own')"),
        ("the user's error below a call of nbkit's", "raise ValueError('my own')"),
        ("an error of a library", "reshape"),
        ("an interrupt of the user's code", "raise KeyboardInterrupt"),
        ("an interrupt of the user's code under nbkit", "interrupt(file)"),
        ("an interrupt of the user's code under nbkit", "write(hashing)"),
        ("a package of none", "No module named 'no_such_package'"),
    ],
)
def test_other_errors_keep_their_traceback(shown, case, says):
    assert says in shown[case] and "Traceback" in shown[case]


@pytest.mark.parametrize("case", ["an interrupt of nbkit at work", "an interrupt of a library at work for nbkit"])
def test_an_interrupt_under_nbkit_ends_at_the_line_of_the_cell(shown, case):
    text = shown[case]
    assert text.rstrip().endswith("KeyboardInterrupt:") and "write_atomically(Path('y')" in text, text
    assert "files.py" not in text and "shutil.py" not in text


def test_the_shell_goes_on_after_an_error(shown):
    assert shown["after all"] == "2\n"
