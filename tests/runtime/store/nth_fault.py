"""A fault at the n-th operation of the surroundings, for every n, as SQLite's own tests do.

A session runs in this process over a disk, a store or a memory that fails at its n-th operation, once or from then on.
What a session does below a folder counts: opening a file, each write, fsync, rename, new folder, deletion, and every
statement of SQLite that writes. A healthy session follows, and then nothing may be lost, doubled or unreadable.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import platform
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat

_SQLITE = {
    errno.ENOSPC: ("database or disk is full", sqlite3.SQLITE_FULL),
    errno.EDQUOT: ("database or disk is full", sqlite3.SQLITE_FULL),
    errno.EIO: ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE),
    errno.EROFS: ("attempt to write a readonly database", sqlite3.SQLITE_READONLY),
}
_WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE", "COMMIT", "BEGIN")
_READING = {errno.EIO}  # what can meet a reader, too
_FREEING = {errno.EIO, errno.EROFS}  # what can meet a deletion, too
_NOBODY = 2**22 + 1  # no process has this id
_OURS = f"{os.sep}nbkit{os.sep}runtime{os.sep}"


class Strike:
    """Count operations, and raise an error at the n-th one.

    Parameters
    ----------
    at : int or None
        Number of the operation, from 1; None only counts.
    fault : callable
        ``fault(what)`` returns the error.
    lasting : bool
        Whether every later operation fails, too.
    """

    def __init__(self, at: int | None, fault: Callable[[str], BaseException], lasting: bool = False) -> None:
        self.at, self.fault, self.lasting = at, fault, lasting
        self.count = 0
        self.struck: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, what: str) -> None:
        with self._lock:
            self.count += 1
            if self.at is None or self.count < self.at or (self.count > self.at and not self.lasting):
                return
            self.struck.append(what)
        raise self.fault(what)


class StrikingStore(FolderStore):
    """A folder store whose verbs count.

    Parameters
    ----------
    how : str
        ``before`` fails without an effect, ``after`` loses the answer of what was done, ``half`` first leaves half of
        a file among the unfinished ones.
    """

    def __init__(self, root: Path, strike: Strike, how: str = "before") -> None:
        super().__init__(root)
        self.strike, self.how = strike, how

    def _around(self, verb: str, name: str, call: Callable[[], Any]) -> Any:
        if self.how != "after":
            self.strike(f"{verb} {name}")
            return call()
        done = call()
        self.strike(f"{verb} {name}")
        return done

    def put(self, path: Path, name: str) -> Stat:
        try:
            return self._around("put", name, lambda: super(StrikingStore, self).put(path, name))
        except StoreError:
            if self.how == "half":
                half = self.root / ".incoming" / f"{platform.node()}.{_NOBODY}.{len(self.strike.struck)}.part"
                half.parent.mkdir(parents=True, exist_ok=True)
                half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        return self._around("get", name, lambda: super(StrikingStore, self).get(name, path, sha256))

    def stat(self, name: str) -> Stat | None:
        return self._around("stat", name, lambda: super(StrikingStore, self).stat(name))

    def list(self, prefix: str = "") -> Iterator[Stat]:
        return iter(self._around("list", prefix, lambda: [*super(StrikingStore, self).list(prefix)]))

    def delete(self, name: str) -> None:
        self._around("delete", name, lambda: super(StrikingStore, self).delete(name))


class _Database(sqlite3.Connection):
    """A connection whose writing statements count."""

    strike: Callable[[str], None] = staticmethod(lambda what: None)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql.startswith(_WRITES):
            self.strike(f"sqlite {sql.split()[0]}")
        return super().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        self.strike(f"sqlite {sql.split()[0]} many")
        return super().executemany(sql, *args)


class _Written:
    """An open file whose writes count: each one, or each full buffer and flush, as the system sees them."""

    def __init__(self, file: Any, what: str, strike: Callable[[str], None], buffer: int = 0) -> None:
        self._file, self._what, self._strike = file, what, strike
        self._buffer, self._pending = buffer, 0

    def write(self, data: Any) -> int:
        self._pending += len(data)
        if self._pending >= self._buffer:
            self._pending = 0
            self._strike(f"write {self._what}")
        return self._file.write(data)

    def flush(self) -> None:
        if self._pending and self._buffer:
            self._pending = 0
            self._strike(f"flush {self._what}")
        self._file.flush()

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def striking_disk(
    folders: list[Path], number: int, at: int | None, lasting: bool = False, buffer: int = 0
) -> Iterator[Strike]:
    """Make what happens below some folders count, and fail with an errno at the n-th operation.

    Writes count each, or each `buffer` bytes.
    """
    roots = [os.path.abspath(folder) for folder in folders]

    def fault(what: str) -> BaseException:
        if what.startswith("sqlite"):
            words, code = _SQLITE[number]
            error = sqlite3.OperationalError(words)
            error.sqlite_errorcode = code
            return error
        return OSError(number, os.strerror(number), what.partition(" ")[2])

    strike = Strike(at, fault, lasting)

    def below(path: Any) -> str | None:
        if isinstance(path, int):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{path}")
        if not isinstance(path, str | os.PathLike):
            return None
        text = os.path.abspath(os.fspath(path))
        return text if any(text == root or text.startswith(root + os.sep) for root in roots) else None

    opened, os_opened, connected = builtins.open, os.open, sqlite3.connect

    def open_file(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        where = None if isinstance(file, int) else below(file)
        if where is None:
            return opened(file, mode, *args, **more)
        if not set(mode) & set("wax+"):
            if number in _READING:
                strike(f"read {where}")
            return opened(file, mode, *args, **more)
        strike(f"open {where}")
        return _Written(opened(file, mode, *args, **more), where, strike, buffer)

    def os_open(path: Any, flags: int, *args: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and (where := below(path)):
            strike(f"os.open {where}")
        return os_opened(path, flags, *args, **more)

    def connect(path: Any, *args: Any, **more: Any) -> Any:
        if below(path):  # below the connection's own class, as SQLite itself would fail
            own = more.pop("factory", sqlite3.Connection)
            more["factory"] = _Database if own is sqlite3.Connection else type("Striking", (own, _Database), {})
        return connected(path, *args, **more)

    def counted(name: str, place: int = 0) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **more: Any) -> Any:
            if where := below(args[place]):
                strike(f"{name} {where}")
            return real(*args, **more)

        return call

    names = {"fsync": 0, "replace": 1, "rename": 1, "mkdir": 0, "link": 1, "pwrite": 0}
    if number in _FREEING:
        names |= {"unlink": 0, "remove": 0, "rmdir": 0}
    if number in _READING:
        names |= {"scandir": 0}
    before = {name: getattr(os, name) for name in [*names, "open"]}
    instead = {name: counted(name, place) for name, place in names.items()} | {"open": os_open}
    _Database.strike = staticmethod(strike)
    builtins.open = io.open = open_file
    sqlite3.connect = connect
    for name, function in instead.items():
        setattr(os, name, function)
    try:
        yield strike
    finally:
        builtins.open = io.open = opened
        sqlite3.connect = connected
        _Database.strike = staticmethod(lambda what: None)
        for name, function in before.items():
            setattr(os, name, function)


@contextlib.contextmanager
def striking_memory(at: int | None, where: str = _OURS, function: str = "") -> Iterator[Strike]:
    """Raise MemoryError at the n-th call of one of our functions, or of a named one, in whatever thread it is."""
    strike = Strike(at, lambda what: MemoryError())

    def trace(frame: Any, event: str, _: Any) -> None:
        if event == "call" and where in frame.f_code.co_filename and not sys.is_finalizing():
            called = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_qualname}"
            if called.endswith(function):
                strike(called)

    threading.settrace(trace)
    sys.settrace(trace)
    try:
        yield strike
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Make temporary files in a folder that counts."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
