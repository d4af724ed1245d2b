"""A notebook's own cells from a text file in the percent form: each line ``# %% name`` begins a cell."""

from __future__ import annotations

import re
from pathlib import Path

from nbkit.runtime.errors import UsageError

_BEGIN = re.compile(r"# ?%%(.*)")
_NAMED = re.compile(r" *([A-Za-z0-9_-]{0,64}) *(\[markdown\])? *")


def read_cells(path: str | Path, taken: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """Return the cells of a file.

    A cell begins at ``# %% name``, one of text at ``# %% name [markdown]``; a cell without a name is called by its
    number. Text may be written as comments, as editors do: where each line begins with ``#``, that is left out.

    Parameters
    ----------
    path : str or Path
    taken : tuple of str
        Names that the cells cannot have.

    Returns
    -------
    cells : list of (name, kind, text)
        The kind is ``code`` or ``markdown``.

    Raises
    ------
    UsageError
        If the file cannot be read or is not of this form, or if a name is taken.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        words = "is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        raise UsageError(f"The file of cells {path} {words}. Nothing was created.") from None
    cells: list[tuple[str, str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        begin = _BEGIN.fullmatch(line)
        if begin is None:
            if cells:
                cells[-1][2].append(line)
            elif line.strip():
                raise _wrong(path, number, "stands before the first cell; begin with '# %% name'")
            continue
        named = _NAMED.fullmatch(begin[1])
        if named is None:
            raise _wrong(path, number, "is no '# %% name' or '# %% name [markdown]'; no spaces in a name")
        name = named[1] or f"cell-{len(cells) + 1}"
        if name in taken or name in [known for known, _, _ in cells]:
            raise _wrong(path, number, f"names a cell {name!r}, as another is named already")
        cells.append((name, "markdown" if named[2] else "code", []))
    if not cells:
        raise UsageError(f"The file {path} has no cell. Each begins with '# %% name'. Nothing was created.")
    return [(name, kind, _text(kind, inside)) for name, kind, inside in cells]


def _wrong(path: str | Path, number: int, words: str) -> UsageError:
    return UsageError(f"Line {number} of {path} {words}. Nothing was created.")


def _text(kind: str, lines: list[str]) -> str:
    said = [line for line in lines if line.strip()]
    if kind == "markdown" and said and all(re.match(r"#( |$)", line) for line in said):
        lines = [line[1:].removeprefix(" ") for line in lines]
    return "\n".join(lines).strip("\n")
