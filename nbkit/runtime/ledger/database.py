"""The SQLite database in which a session records before the store knows.

Opening it never fails for what a kill, a torn write or a flipped bit left there: a hurt database is set aside whole,
and what it held beyond the store's knowledge is done again. A full disk or a folder that is not ours is not damage.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.segments import is_whole

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


def open_database(folder: Path, note: Callable[[str], object]) -> tuple[sqlite3.Connection, list[Row]]:
    """Open a session's database, and give it with the records that an earlier session left.

    Parameters
    ----------
    folder : Path
    note : callable
        Gets a sentence for each thing that was hurt.

    Raises
    ------
    NbkitError
        Where the disk is full or the folder cannot be written.
    """
    path = folder / "ledger.sqlite"
    log = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size if path.is_file() else None
    if size is not None and size < _HEADER_BYTES and (size or (log.is_file() and log.stat().st_size)):
        note(_set_aside(path, f"only {size} bytes are left of it"))  # SQLite would take it for new and drop its log
    for _ in range(2):
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
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
                _drop_hurt_parcels(db, note)
                return db, rows
        except UnicodeDecodeError:  # from within sqlite3, which quotes a hurt table's text in its error
            fault = "the text of its tables is hurt"
        except sqlite3.Error as error:
            fault = str(error)
            if not _is_damage(error, path):
                db.close()
                raise not_recorded(folder, error) from error
        db.close()
        note(_set_aside(path, fault))
    raise NbkitError(f"no ledger can be kept in {folder}: {fault}. Give the session another folder.")


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
    return data.decode("utf-8", "replace")  # hurt text must come as far as its checksum


def _drop_hurt_parcels(db: sqlite3.Connection, note: Callable[[str], object]) -> None:
    for row, line in db.execute("SELECT id, line FROM parcels").fetchall():
        if not is_whole(line):
            db.execute("DELETE FROM parcels WHERE id=?", (row,))
            note("an upload that an earlier session had queued was hurt on disk; its files lie here and are not sent")


def _set_aside(path: Path, fault: str) -> str:
    aside = path.with_name(f"damaged-{time.time_ns()}.sqlite")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            os.replace(old, aside.with_name(aside.name + suffix))
    return (
        f"the ledger in {path.parent} was damaged ({fault}) and is kept as {aside.name}; what the store holds counts, "
        "items that had not reached it are done again"
    )


def _is_damage(error: sqlite3.Error, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF in _HEADER:  # a hurt header says so too
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code & 0xFF in _DAMAGE or code in _READS


def is_place(session: object, number: object) -> bool:
    """Return whether these can be a record's session and number."""
    named = isinstance(session, str) and session.isascii() and session.replace("-", "").replace("_", "").isalnum()
    return named and (number is None or (isinstance(number, int) and 0 < number < 10**12))


def not_recorded(folder: Path, error: Exception) -> NbkitError:
    """Return the error that says that nothing can be recorded now."""
    return NbkitError(
        f"the ledger in {folder} could not record ({error}). The item in work is not recorded and will be done again; "
        "all recorded before stands. Free some disk space and run again."
    )
