"""Notebook files: find them, read and check their parameters, and read the captions of their figures."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.words import unknown
from nbkit.tools.phases import Phase

_DRAWS = re.compile(r"""session\.figure\(.*,\s*["']([\w-]+)["']\s*\)\s*$""", re.MULTILINE)


def find_notebook(text: str | os.PathLike[str]) -> Path:
    """Return the path of a notebook, given as a path, a name such as ``40_bandvar_train``, or the phase's slug.

    Names are searched in ``notebooks/`` of the current folder, then of this checkout.

    Raises
    ------
    UsageError
        If there is no such notebook.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path.resolve()
    folders = [Path("notebooks"), home() / "notebooks"]
    known = {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.ipynb"))}
    slugs = {re.sub(r"^\d+_", "", stem): file for stem, file in known.items()}
    if path.parent == Path(".") and (found := (known | slugs).get(path.name.removesuffix(".ipynb"))):
        return found.resolve()
    beside = path.parent.glob("*.ipynb") if path.parent.is_dir() else ()
    raise UsageError(f"{unknown('notebook', os.fspath(text), [*map(str, sorted(beside)), *known])} Nothing was begun.")


def notebook_parameters(path: Path) -> dict[str, Any]:
    """Return the names and values in a notebook's cell tagged ``parameters``; empty if it has none.

    Raises
    ------
    UsageError
        If the file is not a notebook, or a parameter is not a literal.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        cells = list(content["cells"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a Jupyter notebook ({error!r}). Nothing was begun.") from None
    found: dict[str, Any] = {}
    for cell in cells:
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            found |= _assignments("".join(cell["source"]), path)
    return found


def _assignments(source: str, path: Path) -> dict[str, Any]:
    try:
        tree = ast.parse(source)
        return {
            target.id: ast.literal_eval(statement.value)
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"The parameters cell of {path.name} must contain literals only, one name per line: {error}. Nothing was "
            "begun."
        ) from None


def check_parameters(path: Path, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against those of a notebook, and return them with the notebook's types.

    Parameters
    ----------
    path : Path
        The notebook, for error messages.
    known : mapping
        Its own parameters, from `notebook_parameters`.
    given : mapping
        Other values for some of them.

    Raises
    ------
    UsageError
        If a name is unknown, or a value has another type than the notebook's own.
    """
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"{path.name}: {unknown('parameter', name, known)} Nothing was begun.")
        own = known[name]
        if isinstance(own, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(own, list | tuple) and isinstance(value, list | tuple):
            value = list(value)
        elif own is not None and value is not None and type(value) is not type(own):
            raise UsageError(
                f"{path.name}: {name} is {value!r} ({type(value).__name__}), but must be {type(own).__name__}, as the "
                f"notebook's own value {own!r}. Nothing was begun."
            )
        checked[name] = value
    return checked


def parse_parameters(texts: list[str]) -> dict[str, Any]:
    """Return the parameters in texts like ``NAME=VALUE``; a value is read as JSON if it is JSON, else as text.

    Raises
    ------
    UsageError
        If a text has no ``=``, or its name is not a valid name in Python.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"-p {text!r} is not NAME=VALUE. Write it like -p MAX_STEPS=300. Nothing was begun.")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = {"True": True, "False": False, "None": None}.get(value, value)
    return found


def captions_of(phase: Phase | None) -> dict[str, str]:
    """Return the text below the cell of each figure by the figure's name; empty if the notebook does not exist.

    Parameters
    ----------
    phase : Phase or None
        None for an unknown phase, which has no notebook.
    """
    return _read(home() / "notebooks" / phase.notebook) if phase is not None else {}


@cache
def _read(path: Path) -> dict[str, str]:
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {}
    for cell, after in zip(cells, cells[1:], strict=False):
        if cell.get("cell_type") == "code" and after.get("cell_type") == "markdown":
            words = [part for part in "".join(after["source"]).split("\n\n") if "You should see" in part]
            for name in _DRAWS.findall("".join(cell["source"])):
                found[name] = " ".join(" ".join(words).replace("**", "").replace("*", "").split())
    return found
