"""Files that a command writes for its user, under any name that the user gives."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nbkit.runtime.errors import UsageError


@contextlib.contextmanager
def output_file(path: str | Path, option: str) -> Iterator[Path]:
    """Return the path to write to; a link stays a link, and the file that it names is written.

    Parameters
    ----------
    path : str or path
    option : str
        The option that gave it, for the message.

    Raises
    ------
    UsageError
        If it is a folder, a pipe or a device, or cannot be written.
    """
    check_output(path, option)
    try:
        yield Path(os.path.realpath(path))
    except OSError as error:
        raise UsageError(
            f"The output cannot be written to {path}: {error.strerror}. Nothing was written. Give another {option}."
        ) from None


def check_output(path: str | Path, option: str) -> None:
    """Raise an error if a path is neither that of a regular file nor free; a writer would put a file in its place."""
    path, fault = Path(path), None
    try:
        os.lstat(os.path.realpath(path))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a name that is too long, below a file, or with a character of no name
        why = getattr(error, "strerror", None) or str(error)
        fault = f"cannot be written to {path}: {why}. Give another {option}."
    else:
        if path.is_dir():
            fault = f"{path} is a folder. Name a file in it, such as {option} {path / 'report.html'}."
        elif path.exists() and not path.is_file():
            fault = f"{path} is a pipe, a socket or a device. Give the name of a file with {option}."
    if fault:
        raise UsageError(f"The output {fault} Nothing was written.")
