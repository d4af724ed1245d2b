"""A session over a store or a disk that fails: a clear word, nothing lost, and the next session completes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nbkit.runtime.errors import NbkitError, StoreError
from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store import retried
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.children import fork, reap
from tests.runtime.store.faulty_store import VERBS, FaultyStore, on, passing, permanent

N = 14
ROWS = [{"key": f"sub-{i % 3}/item-{i:02d}", "seed": str(i)} for i in range(N)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retried.Retried.__init__, "__defaults__", (4, 0.001, None))
    monkeypatch.setattr(outbox_module, "_TICK", 0.02)
    monkeypatch.setattr(outbox_module, "_AGAIN_EVERY", 0.05)
    monkeypatch.setattr(outbox_module, "_FLUSH_EVERY", 0.03)
    monkeypatch.setattr(outbox_module, "_REFRESH_EVERY", 0.05)


def run(store: object, folder: Path, **options) -> dict:
    """Run one session of the loop and give its summary."""
    session = open_session("faults", store, folder=folder, **options)
    try:
        for item in session.work(ROWS):
            with item:
                item.save(x=np.full(64, int(item["seed"])), y=np.arange(3))
        if session.budget.wall() > 0.6:  # what follows the work near the wall is ended there
            session.result("mean", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
    except BaseException:
        session._leave()  # what the end of the process does
        raise
    return session.close()


def expect_complete(root: Path, folder: Path) -> None:
    """Run a session over the healthy store, and check every output against what it must be."""
    summary = run(FolderStore(root / "store"), folder)
    assert summary["complete"] and summary["exit"] == 0 and summary["done"] == N and not summary["not_stored"]
    fold = read_state(FolderStore(root / "store"), "faults", root / "check")
    assert set(fold.done) == {row["key"] for row in ROWS} and not fold.damaged and not fold.failures
    for row in ROWS:
        with np.load(root / "store" / "faults" / "items" / f"{row['key']}.npz") as arrays:
            assert (arrays["x"] == int(row["seed"])).all() and arrays["y"].tolist() == [0, 1, 2]


def false_claims(root: Path) -> list[str]:
    """Return the items that the store calls done and whose outputs it does not hold."""
    store = FolderStore(root / "store")
    fold = read_state(store, "faults", root / "check claims")
    return [name for outputs in fold.done.values() for name, size, _ in outputs
            if (found := store.stat(name)) is None or found.size != size]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("torn", [False, True])
def test_every_second_call_of_a_verb_fails_in_passing(tmp_path, capfd, verb, torn):
    store = FaultyStore(FolderStore(tmp_path / "store"), on(verb, passing, lambda n: n % 2 == 1), torn=torn)
    summary = run(store, tmp_path / "work")
    assert summary["complete"] and summary["exit"] == 0 and (store.calls[verb] or verb in ("stat", "delete"))
    expect_complete(tmp_path, tmp_path / "another machine")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("first", [1, 3, 9])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fault", [passing, permanent])
def test_verb_that_fails_from_some_call_on(tmp_path, capfd, monkeypatch, fault, verb, first):
    monkeypatch.setattr(outbox_module, "_PATIENCE", 0.2)
    store = FaultyStore(FolderStore(tmp_path / "store"), on(verb, fault, lambda n: n >= first))
    summary = None
    try:
        summary = run(store, tmp_path / "work")
    except StoreError as error:
        assert "on purpose" in str(error)
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said, said
    assert not false_claims(tmp_path)
    if summary and not summary["complete"]:
        assert summary["exit"] == 3 and ("on purpose" in said or summary["not_stored"])
    if verb == "put" and summary and summary["not_stored"]:
        stored = {s.name for s in FolderStore(tmp_path / "store").list("faults/")}
        made = {f"faults/items/{row['key']}.npz" for row in ROWS} | {"faults/results.json"}
        assert set(summary["not_stored"]) <= made - stored
        assert summary["not_stored"][0] in said, "what is not in the store is named"
    expect_complete(tmp_path, tmp_path / "work")


def test_store_that_cannot_be_reached_at_all_leaves_the_lane_free(tmp_path, capfd):
    for _ in range(3):
        with pytest.raises(StoreError, match="on purpose"):
            run(FaultyStore(FolderStore(tmp_path / "store"), permanent), tmp_path / "work")
    expect_complete(tmp_path, tmp_path / "work")
    assert [p.name for p in (tmp_path / "work" / "faults").iterdir()] == ["lane-0"]


def test_slow_store_completes(tmp_path):
    store = FaultyStore(FolderStore(tmp_path / "store"), slow=0.03)
    assert run(store, tmp_path / "work")["complete"]


def test_slow_store_and_a_wall_stops_in_time_and_the_rest_is_done_later(tmp_path, capfd):
    store = FaultyStore(FolderStore(tmp_path / "store"), slow=0.15)
    summary = run(store, tmp_path / "work", limit=1.5)
    assert not summary["complete"] and summary["exit"] == 3 and summary["reason"] == "wall"
    assert not false_claims(tmp_path) and "Traceback" not in "".join(capfd.readouterr())
    expect_complete(tmp_path, tmp_path / "work")


def test_machine_lost_during_an_outage_loses_only_what_was_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_module, "_PATIENCE", 0.2)
    store = FaultyStore(FolderStore(tmp_path / "store"), on("put", passing, lambda n: n > 9))
    summary = run(store, tmp_path / "work")
    shutil.rmtree(tmp_path / "work")
    missing = summary["left"] + len(summary["not_stored"])
    again = run(FolderStore(tmp_path / "store"), tmp_path / "new machine")
    assert again["complete"] and missing > 0


def limited(root: Path, room: int) -> None:
    """Run a session in which no file can grow beyond some bytes, as on a disk that is full."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        run(FolderStore(root / "store"), root / "work")
    except NbkitError as error:
        print(f"NBKIT ERROR {error}")
    except OSError as error:
        print(f"OS ERROR {error!r}")


@pytest.mark.parametrize("room", [0, 40, 600, 1023, 1300, 3000, 5000, 9000, 20_000, 40_000])
def test_full_disk_at_some_byte_of_every_file(tmp_path, room):
    log = tmp_path / "log"
    # what the child says goes past the limit too, so it goes through a pipe
    read, write = os.pipe()

    def child() -> None:
        os.dup2(write, 1), os.dup2(write, 2)
        import sys

        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        limited(tmp_path, room)

    pid = fork(child, log)
    os.close(write)
    with os.fdopen(read, errors="replace") as pipe:
        said = pipe.read()
    assert reap(pid) == 0, said
    assert "Traceback" not in said and "OS ERROR" not in said, said
    if "NBKIT ERROR" in said:
        assert re.search("full|disk space|could not record|cannot be made", said), said
    assert not false_claims(tmp_path)
    expect_complete(tmp_path, tmp_path / "work")


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("which", ["store", "work"])
@pytest.mark.parametrize("size", ["64k", "140k"])
def test_small_disk_fills_up(tmp_path, capfd, which, size):
    with small_disk(tmp_path / "small", size) as small:
        places = {"store": tmp_path / "store", "work": tmp_path / "work"} | {which: small / which}
        with contextlib.suppress(NbkitError):
            run(FolderStore(places["store"]), places["work"])
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said, said
        for kind in ("store", "work"):
            if places[kind].exists() and kind == which:
                shutil.copytree(places[kind], tmp_path / kind, dirs_exist_ok=True)
    assert not false_claims(tmp_path)
    expect_complete(tmp_path, tmp_path / "work")
