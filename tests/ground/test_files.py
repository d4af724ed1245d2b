"""A file is there whole or not at all, whatever ends the process that writes it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from nbkit.ground import files
from nbkit.ground.files import remove_stray_temps, sha256_of, write_atomically, write_json
from tests.runtime.children import die, fork, reap


def test_gives_size_and_hash_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    size, sha256 = write_atomically(path, lambda file: [file.write(b"one"), file.write(memoryview(b"two"))])
    assert path.read_bytes() == b"onetwo" and size == 6
    assert sha256 == hashlib.sha256(b"onetwo").hexdigest() == sha256_of(path)


def test_an_error_while_writing_leaves_the_old_content_and_no_stray(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def broken(file) -> None:
        file.write(b"half")
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        write_atomically(path, broken)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and path.read_text() == "old"


@pytest.mark.parametrize("where", ["write", "fsync", "replace", "after replace"])
def test_kill_during_write_leaves_old_or_new_and_one_stray_at_most(tmp_path, where):
    path = tmp_path / "x"
    path.write_text("old")

    def write(file) -> None:
        file.write(b"new" * 1000)
        if where == "write":
            die()

    def child() -> None:
        if where == "fsync":
            os.fsync = lambda handle: die()
        if where == "replace":
            os.replace = lambda *_: die()
        if where == "after replace":
            files.fsync_folder = lambda *_: die()
        write_atomically(path, write)

    assert reap(fork(child)) == -signal.SIGKILL
    assert path.read_bytes() == (b"new" * 1000 if where == "after replace" else b"old")
    strays = [p for p in tmp_path.iterdir() if p != path]
    assert len(strays) == (0 if where == "after replace" else 1)
    assert remove_stray_temps(tmp_path) == strays
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_kills_at_random_moments(tmp_path):
    path, contents = tmp_path / "x", {bytes([i]) * 400_000 for i in range(2)}
    path.write_bytes(bytes(400_000))

    def child() -> None:
        for i in range(10_000):
            write_atomically(path, lambda file, i=i: file.write(bytes([i % 2]) * 400_000))

    for attempt in range(12):
        pid = fork(child)
        time.sleep(0.005 + 0.003 * attempt)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert path.read_bytes() in contents
        remove_stray_temps(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_temporary_files_of_living_processes_stay(tmp_path):
    living = tmp_path / f".x.{os.getppid()}.part"
    dead, odd = tmp_path / "sub" / ".x.999999999.part", tmp_path / ".x.part"
    named = tmp_path / "x.part"
    for path in (living, dead, odd, named):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    remove_stray_temps(tmp_path)
    assert living.exists() and named.exists() and odd.exists() and not dead.exists()


def test_full_disk_at_every_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    pid = fork(lambda: _write_with_no_room(path), tmp_path / "log")
    assert reap(pid) == 0, (tmp_path / "log").read_text()
    assert path.read_text() == "old" and {p.name for p in tmp_path.iterdir()} <= {"x", "log"}


def _write_with_no_room(path: Path) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for room in range(0, 3000, 97):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            write_atomically(path, lambda file: file.write(b"n" * 3000))
        except OSError as error:
            assert error.errno == 27, error
        else:
            raise AssertionError(f"3000 bytes fitted into {room}")


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, {"a": {1, 2}}])
def test_json_that_others_cannot_read_is_not_written(tmp_path, value):
    write_json(tmp_path / "x.json", {"é": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"é": 1}
    assert len(list(tmp_path.iterdir())) == 1
