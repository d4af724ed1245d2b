"""Whole files or none.

A file written here appears under its name only when all of it is on disk: a temporary name in the same folder,
fsync, replace, fsync of the folder. A kill leaves at most one stray temporary file, which the next opening removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

TEMP_SUFFIX = ".part"
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hashing:
    """Pass writes on to a file and keep their count and hash, so that nothing is read twice."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        self.file.flush()


def write_atomically(path: Path, write: Callable[[Any], object], temp: Path | None = None) -> tuple[int, str]:
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    path : Path
        The final name; its folder is made where missing.
    write : callable
        Gets a sequential, write-only binary file.
    temp : Path or None
        Temporary name on the same file system; beside the final one by default.

    Returns
    -------
    size : int
        Bytes written.
    sha256 : str
        Their SHA-256, 64 hexadecimal digits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = temp or temp_name(path)
    try:
        with open(temp, "wb") as file:
            hashing = _Hashing(file)
            write(hashing)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
    return hashing.size, hashing.digest.hexdigest()


def temp_name(path: Path) -> Path:
    """Return the temporary name beside a final one; it names the process, so that two never share it."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMP_SUFFIX}")


def fsync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows and some mounts cannot open folders; the rename itself has happened
    try:
        with contextlib.suppress(OSError):  # network mounts answer EINVAL
            os.fsync(handle)
    finally:
        os.close(handle)


def copy_hashed(source: BinaryIO, target: Any) -> None:
    """Copy one open file into another in blocks, with flat memory."""
    while block := source.read(_BLOCK):
        target.write(block)


def remove_stray_temps(folder: Path) -> list[Path]:
    """Remove temporary files that a killed process left, and give their paths.

    Files of a process that is alive on this machine stay: they may be in the middle of being written.
    """
    removed = []
    for path in _temps(folder):
        owner = path.name.removesuffix(TEMP_SUFFIX).rpartition(".")[2]
        if owner.isdigit() and int(owner) != os.getpid() and is_alive(int(owner)):
            continue
        path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _temps(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(TEMP_SUFFIX):
                yield Path(root, name)


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path: Path, value: Any) -> tuple[int, str]:
    """Write a value as JSON, whole or not at all; NaN and infinity are refused. Gives size and SHA-256."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))
