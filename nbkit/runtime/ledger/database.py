"""The SQLite database in which a session records what is not yet in the store.

Opening it never fails because of what a kill, a torn write or a flipped bit left there: a damaged database is set
aside as it is, and work that had not reached the store is done again. A full disk or a folder without write permission
is not damage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbkit.runtime.disk import disk_advice, disk_fault
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.records import is_upload
from nbkit.runtime.ledger.segments import decode_line
from nbkit.runtime.opened import closed

Row = tuple[int, str, int | None, str]
"""A record: id, session, number (None until the store holds the outputs), line."""
NumberedRow = tuple[int, str, int, str]
"""A record that may go to the store."""

_TABLES = {
    "records": "CREATE TABLE records(id INTEGER PRIMARY KEY, session TEXT, number INTEGER, line TEXT)",
    "parcels": "CREATE TABLE parcels(id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT)",
}
_HEADER_BYTES = 512
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_READS = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}
_HEADER = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


class _Cursor(sqlite3.Cursor):
    """Rows of a query, whose faults are told in words."""

    connection: Database

    def fetchone(self) -> Any:
        with self.connection.in_words():
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with self.connection.in_words():
            return super().fetchall()


class Database(sqlite3.Connection):
    """A session's database: once it is open, a query that fails says what is safe and what to do."""

    folder: Path | None = None  # set when the opening is over, which has words of its own

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if not sql.startswith("SELECT"):
            return super().execute(sql, parameters)  # whoever writes knows what was not recorded
        with self.in_words():
            return self.cursor(_Cursor).execute(sql, parameters)

    @contextlib.contextmanager
    def in_words(self) -> Iterator[None]:
        """Turn a fault of a query into an `NbkitError`."""
        try:
            yield
        except sqlite3.Error as error:
            if self.folder is None:
                raise
            if isinstance(error, sqlite3.ProgrammingError):
                raise closed(self.folder.parent.name) from error
            raise NbkitError(
                f"The ledger in {self.folder} could not be read ({error}). What is in the store counts, and nothing "
                f"was changed; items that had not reached it are done again. "
                f"{disk_advice(disk_fault(error), self.folder)}"
            ) from error


def open_database(folder: Path, note: Callable[[str], object]) -> tuple[sqlite3.Connection, list[Row]]:
    """Open a session's database.

    Parameters
    ----------
    folder : Path
    note : callable
        Called with a sentence for each damage that was found.

    Returns
    -------
    database : sqlite3.Connection
    rows : list of Row
        Records that an earlier session left.

    Raises
    ------
    NbkitError
        If the disk is full or the folder cannot be written.
    """
    path = folder / "ledger.sqlite"
    log = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size if path.is_file() else None
    if size is not None and size < _HEADER_BYTES and (size or (log.is_file() and log.stat().st_size)):
        note(_set_aside(path, f"only {size} bytes are left of it"))  # SQLite would take it for new and drop its log
    for _ in range(2):
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=Database)
        except sqlite3.Error as error:
            raise not_recorded(folder, error) from error
        db.text_factory = _text
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            found = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type='table'").fetchall())
            found.pop("sqlite_sequence", None)
            for name in _TABLES.keys() - found.keys():
                db.execute(_TABLES[name])
            if not found.items() <= _TABLES.items():
                fault = "its tables are not ours"  # one letter of PRIMARY KEY, and every update would find no row
            elif db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                fault = "it fails SQLite's own check"
            else:
                rows = db.execute("SELECT id, session, number, line FROM records ORDER BY id").fetchall()
                _drop_damaged_uploads(db, note)
                db.folder = folder
                return db, rows
        except UnicodeDecodeError:  # from within sqlite3, which quotes a damaged table's text in its error
            fault = "the text of its tables is damaged"
        except sqlite3.Error as error:
            fault = str(error)
            if not _is_damage(error, path):
                db.close()
                raise not_recorded(folder, error) from error
        db.close()
        try:
            note(_set_aside(path, fault))
        except OSError as error:
            raise not_recorded(folder, error) from error
    raise NbkitError(f"No ledger can be kept in {folder}: {fault}. Choose another folder for the session with folder=.")


def holds_work(folder: Path) -> bool:
    """Return whether a session left something in this folder that the store may not have."""
    path = folder / "ledger.sqlite"
    if not path.is_file():
        return False
    db = sqlite3.connect(path)
    try:
        found = db.execute("SELECT EXISTS(SELECT 1 FROM records) OR EXISTS(SELECT 1 FROM parcels)").fetchone()
    except sqlite3.Error:
        return False  # nothing that could be taken over
    finally:
        db.close()
    return bool(found[0])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # damaged text must get as far as the check of its checksum


def _drop_damaged_uploads(db: sqlite3.Connection, note: Callable[[str], object]) -> None:
    for row, line in db.execute("SELECT id, line FROM parcels").fetchall():
        if not is_upload(decode_line(line)):
            db.execute("DELETE FROM parcels WHERE id=?", (row,))
            note("The record of a queued upload was damaged on disk. Its files are still here and are not sent.")


def _set_aside(path: Path, fault: str) -> str:
    aside = path.with_name(f"damaged-{time.time_ns()}.sqlite")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            os.replace(old, aside.with_name(aside.name + suffix))
    return (
        f"The ledger in {path.parent} was damaged ({fault}) and is kept as {aside.name}. What is in the store counts; "
        "items that had not reached it are done again."
    )


def _is_damage(error: sqlite3.Error, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF in _HEADER:  # a damaged header is reported like that, too
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code & 0xFF in _DAMAGE or code in _READS


def is_record_id(session: object, number: object) -> bool:
    """Return whether these can be the session and number of a record."""
    named = isinstance(session, str) and session.isascii() and session.replace("-", "").replace("_", "").isalnum()
    return named and (number is None or (isinstance(number, int) and 0 < number < 10**12))


def not_recorded(folder: Path, error: Exception) -> NbkitError:
    """Return the error for a database that cannot be written, or that its session has closed."""
    if isinstance(error, sqlite3.ProgrammingError) or getattr(error, "errno", None) == errno.EBADF:
        return closed(folder.parent.name)
    return NbkitError(
        f"The ledger in {folder} could not record ({error}). The current item is not recorded and will be done again; "
        f"everything recorded before is safe. {disk_advice(disk_fault(error), folder)}"
    )
