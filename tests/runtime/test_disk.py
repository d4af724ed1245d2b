"""What is said of a disk that takes nothing more: what is wrong with it, and a next step that can help."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from types import SimpleNamespace

import pytest

import nbkit.runtime.disk as disk
from nbkit.runtime.errors import StoreError
from nbkit.runtime.ledger.database import not_recorded
from nbkit.runtime.store import folder as module
from nbkit.runtime.store.folder import FolderStore

KINDS = {  # errno, free inodes, all inodes: what is said, what is not
    "full": (errno.ENOSPC, 5, 100, "is full: .*MB are free.*Free some disk space", "inodes"),
    "no inodes": (errno.ENOSPC, 0, 100, "as many files as it can .no inodes.*Delete files", "is full|Free some"),
    "a disk that counts none": (errno.ENOSPC, 0, 0, "is full.*Free some disk space", "inodes"),
    "quota": (errno.EDQUOT, 5, 100, "Your quota .* is used up.*Free some disk space", "inodes"),
    "largest file": (errno.EFBIG, 5, 100, "is full.*Free some disk space", "inodes"),
    "read-only": (errno.EROFS, 5, 100, "can only be read.*Make it writable or use another disk", "Free some|is full"),
    "read-only without inodes": (errno.EROFS, 0, 100, "can only be read.*Make it writable", "Free some|is full|inodes"),
    "broken": (errno.ENXIO, 5, 100, "fails .*Use another disk", "Free some|is full|inodes"),
}  # fmt: skip


def room(free: int, files: int) -> SimpleNamespace:
    """What the system says of a disk with 9 MB free and some inodes."""
    return SimpleNamespace(f_favail=free, f_files=files, f_bavail=9000, f_blocks=10000, f_bfree=9000, f_frsize=1000)


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    number, free, files, said, unsaid = KINDS[request.param]
    monkeypatch.setattr(os, "statvfs", lambda where: room(free, files))
    return number, said, unsaid


def check(words: str, said: str, unsaid: str) -> None:
    assert re.search(said, words) and not re.search(unsaid, words), words


def test_the_store_says_what_is_wrong_and_what_helps(kind, tmp_path, monkeypatch):
    number, said, unsaid = kind

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "x").write_text("x")
    monkeypatch.setattr(module, "write_atomically", fail)
    with pytest.raises(StoreError) as caught:
        FolderStore(tmp_path / "not yet" / "store").put(tmp_path / "x", "a")
    assert not caught.value.passing and "kept here" in str(caught.value)
    check(str(caught.value), said, unsaid)


def test_everything_else_that_writes_says_the_same(kind, tmp_path):
    number, said, unsaid = kind
    with pytest.raises(disk.DiskError) as caught, disk.on_disk("The scores were not written", tmp_path / "new", 10):
        raise OSError(number, os.strerror(number))
    check(str(caught.value), said, unsaid)


def test_the_ledger_tells_a_full_disk_from_one_without_inodes(tmp_path, monkeypatch):
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    for free, said in ((0, "Delete files that are not needed"), (5, "Free some disk space")):
        monkeypatch.setattr(os, "statvfs", lambda where, free=free: room(free, 100))
        for error in (full, sqlite3.OperationalError("unable to open database file")):
            assert said in str(not_recorded(tmp_path / "lane-0", error))
