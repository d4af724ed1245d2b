"""Large files on their way to and from Drive: in chunks, with flat memory, on from where a kill left them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from tests import ROOT
from tests.runtime.store.drive.drive_loopback import Loopback, LoopbackProcess
from tests.runtime.store.drive.drive_state import AFTER, BEFORE, DOWNLOADS, Plan, md5_of

CHUNK = 256 << 10


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


def store_of(drive: Loopback, **options: object) -> DriveStore:
    credential = read_credential(drive.credential_text(), "the test")
    return DriveStore(
        drive.drive.made_folder, credential, **{"chunk": CHUNK, "small": 1000, "first_wait": 0.01, **options}
    )


def a_file(folder: Path, size: int, name: str = "large.bin") -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("size", [1001, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17])
def test_chunks_of_every_kind_of_size_arrive_whole(drive, tmp_path, size):
    path, back = a_file(tmp_path, size), tmp_path / "back"
    store = store_of(drive)
    store.put(path, "a/large.bin")
    assert drive.drive.tree() == [("a/large.bin", md5_of(path), size)]
    store.get("a/large.bin", back)
    assert back.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "large.bin"], (
        "a finished upload leaves nothing behind"
    )


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_fault_in_the_middle_of_a_large_upload_sends_no_chunk_that_was_acknowledged(drive, tmp_path, kind, at):
    path, store = a_file(tmp_path, 5 * CHUNK), store_of(drive)
    store.put(a_file(tmp_path, 10, "first"), "a/first")  # folder and login are there: now only chunks are sent
    drive.drive.counts.clear()
    seen = drive.drive.fault
    calls = []

    def fault(kinds):
        calls.append(1)
        return kind if len(calls) == at + 1 else seen(kinds)

    drive.drive.fault = fault
    store.put(path, "a/large.bin")
    assert ("a/large.bin", md5_of(path), 5 * CHUNK) in drive.drive.tree()
    assert len(drive.drive.tree()) == 2, "the fault made a second file"
    assert drive.drive.counts["bytes of chunks"] <= 6 * CHUNK


def test_upload_goes_on_after_any_share_of_random_faults(tmp_path):
    # a flipped bit is seen in the whole file only, and would come in every try at this rate
    kinds = tuple(kind for kind in (*BEFORE, *AFTER, *DOWNLOADS) if kind != "flipped")
    with Loopback(Plan(rate=0.25, seed=4, kinds=kinds, retry_after="0")) as drive:
        path, store = a_file(tmp_path, 40 * CHUNK), store_of(drive)
        for _ in range(6):
            try:
                store.put(path, "large.bin")
                break
            except StoreError as error:
                assert error.passing
        assert drive.drive.tree() == [("large.bin", md5_of(path), 40 * CHUNK)]
        assert drive.drive.counts["bytes of chunks"] < 60 * CHUNK
        for _ in range(6):
            try:
                store.get("large.bin", tmp_path / "back", sha256_of(path))
                break
            except StoreError as error:
                assert error.passing and not (tmp_path / "back").exists(), "nothing hurt may get its name"
        assert (tmp_path / "back").read_bytes() == path.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_sigkill_during_a_large_upload_resumes_from_the_last_acknowledged_chunk(tmp_path):
    path = a_file(tmp_path, 24 << 20)
    with LoopbackProcess(tmp_path / "drive", latency=0.02) as drive:
        put = [
            sys.executable,
            "-m",
            "tests.runtime.store.drive.drive_child",
            drive.url[9:],
            str(path),
            "c/large.bin",
            str(CHUNK),
        ]
        environ = {**os.environ, "NBKIT_DRIVE_CREDENTIAL": drive.credential}
        child = subprocess.Popen(put, env=environ, cwd=ROOT, stdout=subprocess.PIPE)
        while drive.control()["counts"].get("bytes of chunks", 0) < 8 << 20:
            assert child.poll() is None, "the upload ended before it could be killed"
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        kept = [p for p in tmp_path.iterdir() if p.name.endswith(".upload.json")]
        assert len(kept) == 1 and stat.S_IMODE(kept[0].stat().st_mode) == 0o600, (
            "the upload's address is like a password"
        )
        before = drive.control()["counts"]["bytes of chunks"]
        again = subprocess.run(put, env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
        seen = drive.control()
        assert seen["files"] == [["c/large.bin", md5_of(path), 24 << 20]]
        sent = seen["counts"]["bytes of chunks"]
        assert sent <= (24 << 20) + 2 * CHUNK, f"{sent - (24 << 20)} bytes were sent twice"
        assert before >= 8 << 20
        memory = json.loads(again.stdout)
        assert memory["peak"] - memory["start"] < 16 << 20, "memory holds chunks, not files"
        assert not [p for p in tmp_path.iterdir() if p.name.endswith(".upload.json")]


def test_upload_address_that_drive_has_forgotten_begins_anew(drive, tmp_path):
    path, store = a_file(tmp_path, 8 * CHUNK), store_of(drive)
    drive.drive.plan.fail_next = []
    store.put(a_file(tmp_path, 10, "first"), "first")
    _break_after(drive, 3)
    with pytest.raises(StoreError):
        store.put(path, "large.bin")
    drive.drive.fault = lambda kinds: None
    drive.drive.uploads.clear()
    store_of(drive).put(path, "large.bin")
    assert ("large.bin", md5_of(path), 8 * CHUNK) in drive.drive.tree() and len(drive.drive.tree()) == 2


def test_changed_file_does_not_go_on_with_the_upload_of_the_old_one(drive, tmp_path):
    path, store = a_file(tmp_path, 8 * CHUNK), store_of(drive)
    store.put(a_file(tmp_path, 10, "first"), "first")
    _break_after(drive, 4)
    with pytest.raises(StoreError):
        store.put(path, "large.bin")
    drive.drive.fault = lambda kinds: None
    path.write_bytes(os.urandom(8 * CHUNK))
    store_of(drive).put(path, "large.bin")
    assert ("large.bin", md5_of(path), 8 * CHUNK) in drive.drive.tree()


def test_address_of_an_upload_whose_file_was_pruned_is_removed(drive, tmp_path):
    path, store = a_file(tmp_path, 8 * CHUNK), store_of(drive)
    _break_after(drive, 8)
    with pytest.raises(StoreError):
        store.put(path, "large.bin")
    assert [p for p in tmp_path.iterdir() if p.name.endswith(".upload.json")]
    drive.drive.fault = lambda kinds: None
    path.unlink()
    store_of(drive).put(a_file(tmp_path, 10, "other"), "other")
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".upload.json")]


def _break_after(drive: Loopback, requests: int) -> None:
    """Let so many requests pass, then fail all."""
    left = [requests]

    def fault(kinds: tuple[str, ...]) -> str | None:
        left[0] -= 1
        return "json500" if left[0] < 0 else None

    drive.drive.fault = fault


@pytest.mark.parametrize("kind", DOWNLOADS)
def test_hurt_download_never_gets_its_name(drive, tmp_path, kind):
    path, store, back = a_file(tmp_path, 3 * CHUNK), store_of(drive), tmp_path / "back"
    store.put(path, "large.bin")
    drive.drive.plan.fail_next = [kind]
    back.write_bytes(b"old")
    try:
        store.get("large.bin", back)
    except StoreError as error:
        assert error.passing and back.read_bytes() == b"old"
        store.get("large.bin", back)
    assert back.read_bytes() == path.read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_content_other_than_the_receipt_says_is_refused_in_words(drive, tmp_path):
    path, store, back = a_file(tmp_path, 5000), store_of(drive), tmp_path / "back"
    store.put(path, "a.bin")
    with pytest.raises(DamagedError, match="its receipt says 000000000000"):
        store.get("a.bin", back, "0" * 64)
    assert not back.exists()
