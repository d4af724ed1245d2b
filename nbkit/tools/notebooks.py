"""Notebook files: find them, read them in one form whatever their origin, and read the captions of their figures."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.tools.phases import Phase

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # of a cell
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


def read_notebook(path: Path) -> dict[str, Any]:
    """Return the content of a notebook in the form that all tools can read.

    A byte-order mark is skipped, every source is one text, and what notebooks of some origins lack is added: cell ids,
    metadata, outputs, the language. A cell that an earlier run injected becomes part of the parameters cell.

    Raises
    ------
    UsageError
        If the file is not a notebook, has an old format or another language than Python, or several cells are tagged
        ``parameters``.
    """
    content: Any = None
    try:
        content = json.loads(path.read_bytes())
        cells = [_cell(cell) for cell in content["cells"]]
        metadata = dict(content.get("metadata") or {})
        kernel = {"display_name": "Python 3", "name": "python3", **(metadata.get("kernelspec") or {})}
        about = {**(metadata.get("language_info") or {})}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(content, dict) and "worksheets" in content:
            words = "has a format older than Jupyter's 4. Open it in Jupyter and save it again"
            raise UsageError(f"{path} {words}. Nothing was begun.") from None
        raise UsageError(f"{path} is not a Jupyter notebook ({error!r}). Nothing was begun.") from None
    language = str(about.get("name") or kernel.get("language") or "python")
    if language.lower() not in ("python", "python3", "ipython"):
        raise UsageError(f"{path.name} is a notebook in {language}; nbkit runs notebooks in Python. Nothing was begun.")
    metadata |= {"kernelspec": {"language": "python", **kernel}, "language_info": {"name": "python", **about}}
    return {**content, "cells": _joined(cells, path), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    source, metadata = cell["source"], dict(cell.get("metadata") or {})
    if not isinstance(metadata.get("tags", []), list):
        raise TypeError(f"the tags of a cell are {metadata['tags']!r}")
    empty = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
    return {**empty, **cell, "source": source if isinstance(source, str) else "".join(source), "metadata": metadata}


def _joined(cells: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return the cells with ids of their own, and with what a run injected joined to the parameters cell."""
    tagged = tagged_cells(cells, "parameters")
    if len(tagged) > 1:
        raise UsageError(
            f"{path.name} has {len(tagged)} cells tagged 'parameters', but a run replaces the values of one. Join them "
            "into one cell. Nothing was begun."
        )
    if tagged:
        for injected in tagged_cells(cells, "injected-parameters"):
            tagged[0]["source"] += f"\n{injected['source']}"
            cells = [cell for cell in cells if cell is not injected]
    seen: set[str] = set()
    for number, cell in enumerate(cells):
        name = cell.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name) or name in seen:
            name = next(one for n in count(number) if (one := f"cell-{n}") not in seen)
            cell["id"] = name
        seen.add(name)
    return cells


def tagged_cells(cells: list[dict[str, Any]], tag: str) -> list[dict[str, Any]]:
    """Return the code cells with a tag."""
    return [cell for cell in cells if cell["cell_type"] == "code" and tag in cell["metadata"].get("tags", [])]


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
        cells = read_notebook(path)["cells"]
    except (OSError, UsageError):
        return {}
    found = {}
    for cell, after in zip(cells, cells[1:], strict=False):
        if cell["cell_type"] == "code" and after["cell_type"] == "markdown":
            words = [part for part in after["source"].split("\n\n") if "You should see" in part]
            for name in _DRAWS.findall(cell["source"]):
                found[name] = " ".join(" ".join(words).replace("**", "").replace("*", "").split())
    return found
