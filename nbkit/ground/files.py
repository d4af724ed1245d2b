"""Atomic file writes and hashing.

A file appears under its final name only when all of it is on disk: it is written under a temporary name in the same
folder, synced, renamed, and then the folder is synced. A kill leaves at most one stray temporary file, which the next
session removes when it opens.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

TEMP_SUFFIX = ".part"
LARGEST_JSON = 64 << 20  # bytes; a damaged or foreign file must not fill the memory
_BLOCK = 1 << 20
_TEMP_NAME = re.compile(rf"\..+\.(\d+){re.escape(TEMP_SUFFIX)}")
_NOT_SUPPORTED = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.ENOSYS}

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def no_file(path: Path) -> str | None:
    """Return what a path is instead of a file, as the end of a sentence; None where it is one that can be read."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "is a link to what is not there" if os.path.islink(path) else "does not exist"
    except (OSError, ValueError) as error:  # no right to look, a circle of links, a NUL
        return f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISREG(mode):
        return None if os.access(path, os.R_OK) else "may not be read by this user"
    kind = next((words for is_one, words in _KINDS if is_one(mode)), "something else")
    return f"is {kind}"


class _Hashing:
    """Pass writes to a file and keep their size and hash, so that the file need not be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.digest = file, 0, hashlib.sha256()
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self.file.write(view)
        except OSError as error:
            self.fault = self.fault or error
            raise
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        self.file.flush()


def write_atomically(path: Path, write: Callable[[Any], object], temp: Path | None = None) -> tuple[int, str]:
    """Write a file atomically: after a kill it is complete or absent.

    Parameters
    ----------
    path : Path
        The final name; its folder is created if it is missing.
    write : callable
        Called with a sequential, write-only binary file.
    temp : Path or None
        Temporary name on the same file system; beside ``path`` by default.

    Returns
    -------
    size : int
        Number of bytes written.
    sha256 : str
        SHA-256 of these bytes, 64 hexadecimal digits.
    """
    make_folder(path.parent)
    temp = temp or temp_name(path)
    try:
        with open(temp, "wb") as file:
            hashing = _Hashing(file)
            try:
                write(hashing)
            except Exception as error:
                if hashing.fault is None or error is hashing.fault:
                    raise
                # a writer of archives, such as torch's, hides a full disk behind an error of its own
                raise hashing.fault from error
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
    """Return the temporary name beside a final one; it contains the process id, so two processes never share it."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMP_SUFFIX}")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it that are missing, synced, so that they survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder == folder.parent:
            break
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        fsync_folder(new.parent)


def fsync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut where the system supports that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows and some mounts cannot open folders; the rename itself is done
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(handle)


def copy_hashed(source: BinaryIO, target: Any) -> None:
    """Copy an open file into another in blocks, so that memory use does not grow with the file."""
    while block := source.read(_BLOCK):
        target.write(block)


def remove_stray_temps(folder: Path) -> list[Path]:
    """Remove temporary files that killed processes left, and return their paths.

    Files of a process that is alive on this machine are kept: it may still be writing them. So is all that has another
    name than `temp_name` gives, and what lies behind a link.
    """
    removed = []
    for root, _, _ in os.walk(folder):
        for path in own_files(Path(root), _TEMP_NAME):
            owner = int(path.name.removesuffix(TEMP_SUFFIX).rpartition(".")[2])
            if owner == os.getpid() or not is_alive(owner):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def own_files(folder: Path, name: re.Pattern[str] | Callable[[str], object]) -> list[Path]:
    """Return the files in a folder that may be deleted, because only nbkit gives files such names.

    No link is returned or followed: a folder that is itself a link has none. What lies behind one is not ours.

    Parameters
    ----------
    folder : Path
        Need not exist.
    name : pattern or callable
        The whole name of such a file, or what says of a name whether it is one.
    """
    is_own = name.fullmatch if isinstance(name, re.Pattern) else name
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if folder.is_symlink():
            return []
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # another session may delete it meanwhile
                if is_own(path.name) and stat.S_ISREG(path.lstat().st_mode):
                    found.append(path)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process with this id is running on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process has
        return False
    except OSError:
        return True
    return True


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    ValueError
        If it is not JSON, holds NaN or an infinity, which JSON does not have, or is larger or nested more deeply than
        any file of this kind.
    """
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise ValueError(f"it has {size} bytes, more than {LARGEST_JSON}")
    try:
        return json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def write_json(path: Path, value: Any) -> tuple[int, str]:
    """Write a value as JSON, atomically, and return the file's size in bytes and its SHA-256.

    Raises
    ------
    ValueError
        If the value contains NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_private(path: Path, data: bytes) -> None:
    """Write a file atomically that only its owner may read."""
    make_folder(path.parent)
    temp = temp_name(path)
    temp.unlink(missing_ok=True)
    os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # a write into it keeps its mode
    write_atomically(path, lambda file: file.write(data), temp)
