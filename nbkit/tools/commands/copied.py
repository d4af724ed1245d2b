"""Copies of the notebooks in a folder of the user's own.

An installed package holds the notebooks where nobody would look for them, and in a checkout a notebook that was run
differs from the repository's. Both are opened as copies.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nbkit.ground.files import write_atomically
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import NOTEBOOKS_MARK
from nbkit.runtime.words import counted


def copy_notebooks(folder: str | os.PathLike[str]) -> str:
    """Copy the notebooks into a folder, and return what was done and how to open them.

    A file that is there already is left as it is, whatever it holds.

    Raises
    ------
    UsageError
        If the folder is a file, or the folder of the notebooks themselves.
    """
    target, source = Path(folder).expanduser(), home() / "notebooks"
    if os.path.lexists(target) and not target.is_dir():
        kind = "a file" if target.exists() else "a link that leads to no folder"
        raise UsageError(f"{target} is {kind}. Give a folder, such as my-notebooks. Nothing was copied.")
    if os.path.realpath(target) == os.path.realpath(source):
        raise UsageError(f"{target} holds the notebooks themselves. Give another folder. Nothing was copied.")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {target} cannot be made: {error.strerror}. Give another. Nothing was copied."
        ) from None
    new, kept = 0, []
    for notebook in sorted(source.glob("*.ipynb")):
        place, content = target / notebook.name, notebook.read_bytes()
        if place.exists():
            kept += [notebook.stem] if place.read_bytes() != content else []
            continue
        write_atomically(place, lambda file, content=content: file.write(content))
        new += 1
    (target / NOTEBOOKS_MARK).touch()
    lines = [f"{counted(new, 'notebook')} copied into {target}."]
    if kept:
        lines.append(f"Left as they are, because they differ from this version's: {', '.join(kept)}.")
    lines.append(
        f"Open them with: {sys.executable} -m jupyterlab {target}   (their store: {target.parent / 'nbkit-store'})"
    )
    return "\n".join(lines)
