"""Words for a disk that fails: it is full, has no room for one more file, is over a quota, read-only or broken.

Such a fault is not the fault of what was being written. It is told in one sentence with the folder, what was needed and
what is free, and it is never counted against an item.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from nbkit.runtime.errors import NbkitError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BROKEN = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE}
_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}


class DiskError(NbkitError, OSError):
    """This machine's disk failed while something was written to it or read from it."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno: int = number

    __str__ = Exception.__str__  # OSError's own shows the number instead of the message


def disk_fault(error: BaseException) -> int | None:
    """Return the errno of a fault of the disk; None for any other error."""
    if isinstance(error, sqlite3.Error):
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    number = getattr(error, "errno", None)
    return number if isinstance(error, OSError) and number in FULL | _BROKEN | {errno.EROFS} else None


def disk_words(number: int, where: Path, needed: int | None = None) -> str:
    """Return what is wrong with the disk of a folder, and how much is free there.

    Parameters
    ----------
    number : int
        An errno.
    where : Path
    needed : int or None
        Bytes that were to be written.
    """
    need = "" if needed is None else f"about {needed / 1e6:.1f} MB were needed, "
    if number == errno.EDQUOT:
        return f"Your quota on the disk of {where} is used up: {need}{free_words(where)} free on it"
    if number == errno.ENOSPC and _has_no_more_files(where):
        return (
            f"The disk of {where} holds as many files as it can (no inodes are free), though {free_words(where)} free"
        )
    if number in FULL:
        return f"The disk of {where} is full: {need}{free_words(where)} free"
    if number == errno.EROFS:
        return f"The disk of {where} can only be read ({os.strerror(number)})"
    return f"The disk of {where} fails ({os.strerror(number)})"


def disk_advice(number: int | None, where: Path) -> str:
    """Return the next step after a fault of the disk of a folder."""
    if number in (None, errno.ENOSPC) and _has_no_more_files(where):
        return "Delete files that are not needed, of whatever size, or use another disk, and run again."
    if number is None or number in FULL:
        return "Free some disk space or use another disk, and run again."
    if number == errno.EROFS:
        return "Make it writable or use another disk, and run again; what is stored is safe."
    return "Use another disk or another machine and run again; what is stored is safe."


def free_words(where: Path) -> str:
    """Return the free space of the disk that holds a folder, which need not exist yet, as the begin of a clause."""
    with contextlib.suppress(OSError):
        return f"{shutil.disk_usage(_existing(where)).free / 1e6:.1f} MB are"
    return "an unknown amount is"


def _has_no_more_files(where: Path) -> bool:
    """Return whether no file can be made on the disk of a folder, however much space is free on it."""
    with contextlib.suppress(OSError, AttributeError):  # a system may not say
        room = os.statvfs(_existing(where))
        return room.f_files > 0 and room.f_favail == 0
    return False


def _existing(where: Path) -> Path:
    where = Path(os.path.abspath(where))
    while not where.exists() and where != where.parent:
        where = where.parent
    return where


@contextlib.contextmanager
def on_disk(doing: str, where: Path, needed: int | None = None) -> Iterator[None]:
    """Turn a fault of the disk into a `DiskError`; other errors pass.

    Parameters
    ----------
    doing : str
        What could not be done, as the begin of a sentence, such as ``"The scores were not written"``.
    where : Path
        The folder that is written to.
    needed : int or None
        Bytes.
    """
    try:
        yield
    except DiskError:
        raise
    except (OSError, sqlite3.Error) as error:
        number = disk_fault(error)
        if number is None or isinstance(error, NbkitError):
            raise
        words = disk_words(number, where, needed)
        raise DiskError(
            f"{words}. {doing}; everything recorded before is safe, and no incomplete file counts. "
            f"{disk_advice(number, where)}",
            number,
        ) from error
