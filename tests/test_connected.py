"""Public names that nothing but tests refers to: each is connected, listed here with a reason, or a fault.

References are by name: in the code of nbkit, notebooks, measurements and checks of a card, and in code that README and
docs/ show. A name that two modules define counts for both, and methods are not looked at, so the probe may miss some.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

# imported by users in their own Python, where no notebook or command can stand in for it
IMPORTED = {
    "ContainerExecutor": "session.map over Modal's containers, with an account of one's own",
    "JobExecutor": "session.map over Slurm's jobs, with a cluster's own settings",
    "NeuralTrainable": "the protocol that estimators of one's own keep to",
    "braindecode_weights": "hands LaBraM's weights to braindecode's network",
    "modal_function": "the deployed function of ContainerExecutor",
    "merge_lora": "puts adapters into the weights, to hand a decoder on",
}
# found when this was written: known, to be connected or deleted. No new name belongs here
KNOWN = {
    "one_step_scores": "the controls of 40 score by band",
    "tokenizer_scores": "42 scores by band",
}
BY_PREFIX = {"read_": "nbkit/neuro/tribe/readers/"}  # READER of 61, 64 and 65 is a part of a function's name


def code_of(path: Path) -> str:
    """Return the Python code of a module or a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text("utf-8")
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in ["", *"".join(cell["source"]).splitlines()]]
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield names that are read, imported, taken as attributes, or are strings of one (dotted) word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.:]+", node.value):
            yield from re.split(r"[.:]+", node.value)


def is_registered(made: ast.stmt) -> bool:
    """Return whether a decorator such as ``@app.command()`` hands a function on."""
    found = [mark for mark in getattr(made, "decorator_list", []) if isinstance(mark, ast.Call)]
    return any(isinstance(mark.func, ast.Attribute) for mark in found)


def unconnected(root: Path) -> dict[str, str]:
    """Return public names of modules, with their file, that nothing refers to but themselves, each other and tests."""
    defined: dict[str, str] = {}
    users: defaultdict[str, set[str]] = defaultdict(set)  # name to the public definitions that use it; "": other code
    used = [root / "nbkit", root / "notebooks", root / "tests/bench", root / "tests/gpu"]
    for path in sorted(path for folder in used for path in folder.rglob("*") if path.suffix in (".py", ".ipynb")):
        name = path.relative_to(root).as_posix()
        for made in ast.parse(code_of(path)).body:
            own = ""
            if name.startswith("nbkit/") and isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own = "" if made.name.startswith("_") or is_registered(made) else made.name
                own and defined.setdefault(own, name)
            for word in names_in(made):
                users[word].add(own)
    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        if page.is_file() and not page.name.startswith("capabilities"):
            for shown in re.findall(r"```.*?```|`[^`]+`", page.read_text("utf-8"), re.DOTALL):
                for word in re.findall(r"\w+", shown):
                    users[word].add("")
    found: dict[str, str] = {}
    while True:
        more = {name for name in defined if name not in found and not users[name] - {name} - set(found)}
        if not more:
            return {name: defined[name] for name in sorted(found)}
        found |= {name: defined[name] for name in more}


@pytest.fixture(scope="module")
def found_here(root) -> dict[str, str]:
    return unconnected(root)


def test_every_public_name_is_connected(found_here):
    found = found_here
    for prefix, folder in BY_PREFIX.items():
        found = {
            name: file for name, file in found.items() if not (name.startswith(prefix) and file.startswith(folder))
        }
    new = {name: file for name, file in found.items() if name not in IMPORTED | KNOWN}
    assert new == {}, "only tests refer to these: let a notebook or a command reach them, or delete them"


def test_no_listed_name_is_gone_or_connected(found_here):
    assert sorted(set(IMPORTED | KNOWN) - set(found_here)) == []


def test_a_name_that_only_tests_use_is_found(tmp_path):
    bodies = [
        "def used():\n    return _inner()", "def _inner():\n    pass", "def lost():\n    return lost",
        "class Chain:\n    pass", "def chained():\n    return Chain",
        "@app.command('x')\ndef command():\n    pass", "def stored():\n    pass",
        "def shown():\n    stored = 1",
    ]  # fmt: skip
    files = {
        "nbkit/room.py": "\n\n".join(bodies),
        "tests/test_room.py": "from nbkit.room import lost\nlost()\n",
        "docs/page.md": "The word lost, and `shown(1)`.\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cells = [{"cell_type": "code", "source": ["%matplotlib inline\n", "from nbkit.room import used\n"]}]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/10_room.ipynb").write_text(json.dumps({"cells": cells}))
    assert sorted(unconnected(tmp_path)) == ["Chain", "chained", "lost", "stored"]
