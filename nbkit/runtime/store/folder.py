"""A folder as a store: the default, and any mounted disk.

A file appears under its name only when it is complete, and `put` returns only after the written bytes were read back
and agree. Unfinished files are in the folder ``.incoming``, which is never listed and which the next session cleans.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import stat as stat_module
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nbkit.ground.files import TEMP_SUFFIX, copy_hashed, is_alive, make_folder, own_files, sha256_of, write_atomically
from nbkit.runtime.disk import FULL, disk_advice, disk_fault, disk_words
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.names import check_name, check_prefix
from nbkit.runtime.store.protocol import Stat

_PASSING = {errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.EIO, errno.ENETDOWN}
_UNFINISHED = re.compile(rf"(.+)\.(\d+)\.\d+{re.escape(TEMP_SUFFIX)}")  # a file in .incoming: machine, process, thread
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # nothing is there, or a link that leads to itself


class FolderStore:
    """Files in a folder.

    Parameters
    ----------
    root : Path
        Created by the first `put`.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.url = str(root)
        self._swept = False

    def path(self, name: str) -> Path:
        """Return the path of a name, for reading in place.

        Raises
        ------
        StoreError
            If a symbolic link below the folder leads out of it.
        """
        return self._inner(check_name(name, "store name"))

    def _inner(self, name: str) -> Path:
        path = self.root / name
        if name and not self._inside(path):
            raise StoreError(
                f"{name} in {self.root} is or lies behind a symbolic link that leads out of the store. It was not "
                "followed, and nothing was read or written. Remove the link, or make its target the store."
            )
        return path

    def _inside(self, path: Path) -> bool:
        root = os.path.realpath(self.root)
        return os.path.realpath(path).startswith(root.rstrip(os.sep) + os.sep)

    def put(self, path: Path, name: str) -> Stat:
        target = self.path(name)
        try:
            with open(path, "rb") as source:
                if self._same(path, target):
                    return Stat(name, target.stat().st_size, f"sha256:{sha256_of(target)}")
                size, sha256 = write_atomically(target, lambda file: copy_hashed(source, file), self._incoming())
            if target.stat().st_size != size or sha256_of(target) != sha256:
                raise StoreError(f"{name} does not read back from {self.root} as it was written", passing=True)
        except FileNotFoundError as error:
            if str(error.filename) == str(path) or not Path(path).exists():
                raise
            raise _worded(error, "put", name, self.root) from error
        except StoreError:
            raise
        except OSError as error:
            raise _worded(error, "put", name, self.root) from error
        return Stat(name, size, f"sha256:{sha256}")

    @staticmethod
    def _same(path: Path, target: Path) -> bool:
        with contextlib.suppress(OSError):
            same_size = target.is_file() and target.stat().st_size == os.stat(path).st_size
            return same_size and sha256_of(target) == sha256_of(path)
        return False

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        source = self.path(name)
        if _is_no_file(source):  # a pipe or a device would be waited for
            raise FileNotFoundError(errno.ENOENT, f"the store {self.root} holds no {name}")
        try:
            with open(source, "rb") as file:
                size, found = write_atomically(path, lambda target: copy_checked(file, target, name, self.url, sha256))
        except (FileNotFoundError, NotADirectoryError) as error:
            if str(error.filename) != str(source):
                raise _worded(error, "get", name, path.parent) from error
            raise FileNotFoundError(errno.ENOENT, f"the store {self.root} holds no {name}") from None
        except OSError as error:
            raise _worded(error, "get", name, path.parent if error.errno in FULL else self.root) from error
        return Stat(name, size, f"sha256:{found}")

    def stat(self, name: str) -> Stat | None:
        path = self.path(name)
        try:
            found = path.stat()
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise _worded(error, "stat", name, self.root) from error
        return Stat(name, found.st_size) if stat_module.S_ISREG(found.st_mode) else None

    def links_out(self, folder: str = "") -> list[str]:
        """Return the folders and files directly in a folder that no listing shows, because links lead out of the store.

        To list what lies behind one is an error; all else is listed as if they were not there.
        """
        start = self.root / folder
        names = sorted(os.listdir(start)) if start.is_dir() and (not folder or self._inside(start)) else []
        links = [name for name in names if not name.startswith(".") and (start / name).is_symlink()]
        outside = [name for name in links if (start / name).exists() and not self._inside(start / name)]
        return [f"{folder}/{name}" if folder else name for name in outside]

    def list(self, prefix: str = "") -> Iterator[Stat]:
        folder = check_prefix(prefix).rpartition("/")[0]
        start = self._inner(folder)
        try:
            yield from sorted(self._walk(start, prefix), key=lambda stat: stat.name)
        except OSError as error:
            raise _worded(error, "list", prefix, self.root) from error

    def _walk(self, start: Path, prefix: str, above: tuple[str, ...] = ()) -> Iterator[Stat]:
        """Yield what lies in a folder, and behind links to folders of the store, as `path` gives it."""

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        for root, folders, names in os.walk(start, onerror=refuse):
            folders[:] = [f for f in folders if not f.startswith(".")]
            base = Path(root).relative_to(self.root).as_posix()
            for link in [Path(root, f) for f in folders if os.path.islink(os.path.join(root, f))]:
                seen, target = (*above, os.path.realpath(root) + os.sep), os.path.realpath(link) + os.sep
                if self._inside(link) and not any(one.startswith(target) for one in seen):  # else a circle
                    yield from self._walk(link, prefix, seen)
            for file in names:
                name = file if base == "." else f"{base}/{file}"
                if name.startswith(prefix) and not file.startswith("."):
                    path = os.path.join(root, file)
                    if os.path.islink(path) and not self._inside(Path(path)):
                        continue
                    try:
                        found = os.stat(path)
                    except OSError as error:
                        if error.errno not in _NO_FILE:  # another session may delete while we list
                            raise
                        continue
                    if stat_module.S_ISREG(found.st_mode):  # a pipe, socket or device holds nothing of a store
                        yield Stat(name, found.st_size, changed=str(found.st_mtime_ns))

    def delete(self, name: str) -> None:
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _worded(error, "delete", name, self.root) from error

    def connect(self) -> FolderStore:
        return self

    def _incoming(self) -> Path:
        """Return a temporary path on the store's file system; the first call removes what killed sessions left.

        Raises
        ------
        StoreError
            If the folder for it is a link: what lies behind it is not the store's.
        """
        folder = self.root / ".incoming"
        if folder.is_symlink():
            raise StoreError(
                f"{folder} is a symbolic link to {os.readlink(folder)}. nbkit keeps unfinished files there, in a "
                "folder of its own, and follows no link to it. Nothing was written, and nothing behind the link was "
                "deleted. Remove the link and run again: nbkit makes the folder."
            )
        make_folder(folder)
        if not self._swept:
            self._swept = True
            for path in own_files(folder, _UNFINISHED):
                if _abandoned(path):
                    path.unlink(missing_ok=True)
        return folder / f"{platform.node()}.{os.getpid()}.{threading.get_ident()}{TEMP_SUFFIX}"


def _is_no_file(path: Path) -> bool:
    try:
        return not stat_module.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return error.errno in _NO_FILE


def _abandoned(path: Path) -> bool:
    """Return whether the writer of a temporary file is certainly dead, or has not written to it for a day."""
    named = _UNFINISHED.fullmatch(path.name)
    if named and named[1] == platform.node():
        return not is_alive(int(named[2]))
    with contextlib.suppress(OSError):
        return path.stat().st_mtime < time.time() - 86400
    return False


def _worded(error: OSError, verb: str, name: str, root: Path) -> StoreError:
    number = disk_fault(error)
    if number is not None and number not in _PASSING:
        return StoreError(
            f"{disk_words(number, root)}. {verb} {name} failed, and no incomplete file counts; files that are not "
            f"stored yet are kept here. {disk_advice(number, root)}"
        )
    words = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(f"{verb} {name} in {root} failed: {words}", passing=error.errno in _PASSING)


def copy_checked(
    source: BinaryIO, target: Any, name: str, url: str, sha256: str | None = None, size: int | None = None
) -> None:
    """Copy a stored file into a file of `write_atomically`, which keeps the old content if this raises.

    Parameters
    ----------
    source : file
    target : file
        Counts and hashes the written bytes.
    name, url : str
        Of the file and its store, for messages.
    sha256 : str or None
        Expected checksum, from a receipt.
    size : int or None
        Expected bytes, from the store.

    Raises
    ------
    StoreError
        If the download is incomplete.
    DamagedError
        If the content does not have the expected checksum.
    """
    copy_hashed(source, target)
    if size is not None and target.size != size:
        raise StoreError(f"{name} in {url} ended after {target.size} of {size} bytes", passing=True)
    found = target.digest.hexdigest()
    if sha256 and found != sha256:
        raise DamagedError(
            f"{name} in {url} is damaged: {target.size} bytes with SHA-256 {found[:12]}..., its receipt says "
            f"{sha256[:12]}.... The download was discarded, the store left as it is. Run again; if it "
            "stays so, 'nbkit verify' shows what else is damaged."
        )
