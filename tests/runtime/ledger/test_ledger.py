"""The ledger after kills, torn databases and full disks: it opens, it never invents, it loses what it must."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import DamagedError, NbkitError, StoreError
from nbkit.runtime.ledger import ledger as module
from nbkit.runtime.ledger.ledger import Ledger, Output
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.children import die, fork, reap
from tests.runtime.store.faulty_store import FaultyStore, on, passing, permanent


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """A killed process leaves its writes to the system; waiting for the platter only makes the tests slow."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def make(ledger: Ledger, key: str) -> None:
    """Write an item's output and record it, as the loop does."""
    name = f"p/items/{key}.npz"
    size, sha256 = write_atomically(ledger.local(name), lambda file: file.write(key.encode() * 50))
    ledger.done(key, [Output(name, size, sha256)], 0.1)


def bring(ledger: Ledger, key: str) -> None:
    """Bring an item's outputs to the store, as the outbox does."""
    for output in ledger.outputs(key):
        ledger.store.put(ledger.local(output.name), output.name)
    ledger.stored(key)


def opened(root: Path, session: str = "next", store: object = None, folder: str = "work") -> Ledger:
    return Ledger(root / folder, "p", session, store or FolderStore(root / "store"))


def test_no_record_follows_the_closing_one(tmp_path):
    """An upload that ends while the session closes: whoever has read the closing record looks for no more."""
    ledger = opened(tmp_path, "one")
    make(ledger, "a")
    ledger.note({"e": "close", "reason": "wall"})
    bring(ledger, "a")
    ledger.close()
    assert not read_state(ledger.store, "p", tmp_path / "look").done
    following = opened(tmp_path, "two")
    assert following.is_done("a") and following.outputs("a"), "not done again, only sent again"
    bring(following, "a")
    following.close()
    state = read_state(ledger.store, "p", tmp_path / "look")
    assert set(state.done) == {"a"} and all(state.is_finished(s) for s in state.listed if s.session == "one")


def test_an_item_goes_from_pending_to_here_to_stored(tmp_path):
    ledger = opened(tmp_path)
    assert not ledger.is_done("a") and ledger.outputs("a") == []
    make(ledger, "a")
    assert ledger.is_done("a") and ledger.counts() == {"stored": 0, "here": 1, "unsent_records": 0}
    assert ledger.outputs("a")[0].name == "p/items/a.npz"
    assert not read_state(ledger.store, "p", tmp_path / "c1").done, "its outputs are not there yet"
    bring(ledger, "a")
    assert ledger.counts() == {"stored": 1, "here": 0, "unsent_records": 1}
    assert ledger.flush() == 1
    assert list(read_state(ledger.store, "p", tmp_path / "c2").done) == ["a"]
    ledger.close()
    assert opened(tmp_path, folder="another machine").is_done("a")


def test_failures_and_deaths_are_counted_over_sessions(tmp_path):
    for i in range(3):
        ledger = opened(tmp_path, f"s{i}")
        ledger.failed("a", f"error {i} \udcff")
        ledger.begin("b")
        ledger.release()
    ledger = opened(tmp_path, "last")
    assert ledger.state.failures == {"a": 3} and ledger.state.deaths == {"b": 3}
    ledger.close()
    fold = opened(tmp_path, "other", folder="another machine").state
    assert fold.failures == {"a": 3} and fold.deaths == {"b": 3}


def killed(work: Callable[[Ledger], object], root: Path, store: object = None, session: str = "killed") -> None:
    """Run a session in a child that ends by SIGKILL."""

    def child() -> None:
        module.MERGE = 4
        ledger = opened(root, session, store)
        work(ledger)
        die()

    assert reap(fork(child, root / "log")) == -signal.SIGKILL, (root / "log").read_text()


def test_kill_between_record_and_flush_keeps_the_record_on_this_machine(tmp_path):
    killed(lambda ledger: [make(ledger, "a"), make(ledger, "b"), bring(ledger, "a")], tmp_path)
    assert not opened(tmp_path, folder="another machine").state.done, "the machine is lost: both are done again"
    ledger = opened(tmp_path)
    assert ledger.is_done("a") and list(ledger.here) == ["b"]
    bring(ledger, "b")
    ledger.close()
    assert set(opened(tmp_path, folder="a third machine").state.done) == {"a", "b"}


def test_kill_between_record_and_flush_with_outputs_lost_does_the_item_again(tmp_path):
    killed(lambda ledger: [make(ledger, "a"), make(ledger, "b")], tmp_path)
    output = tmp_path / "work" / "outputs" / "p" / "items" / "a.npz"
    output.write_bytes(output.read_bytes()[:-1])
    ledger = opened(tmp_path)
    assert not ledger.is_done("a") and ledger.is_done("b")


def busy(ledger: Ledger) -> None:
    """Do, store and flush items one by one, so that segments merge all the time."""
    for i in range(14):
        make(ledger, f"k{i:02d}")
        bring(ledger, f"k{i:02d}")
        ledger.failed(f"f{i % 3}", "error")
        ledger.flush()
    ledger.close()


class Deadly(FolderStore):
    """A store whose n-th call of a verb is the process's last, before or after it took effect."""

    def __init__(self, inner: FolderStore, verb: str, n: int, after: bool) -> None:
        super().__init__(inner.root)
        self.verb, self.left, self.after = verb, n, after

    def put(self, path, name):
        return self._strike("put", lambda: FolderStore.put(self, path, name))

    def delete(self, name):
        return self._strike("delete", lambda: FolderStore.delete(self, name))

    def _strike(self, verb, call):
        self.left -= verb == self.verb
        if self.left == 0 and not self.after:
            die()
        found = call()
        if self.left == 0:
            die()
        return found


@pytest.mark.parametrize("verb", ["put", "delete"])
@pytest.mark.parametrize("after", [False, True])
def test_kill_at_every_store_call_of_flushes_and_merges(tmp_path, verb, after):
    for n in range(1, {"put": 34, "delete": 17}[verb], 4):
        root = tmp_path / str(n)
        root.mkdir()

        killed(busy, root, Deadly(FolderStore(root / "store"), verb, n, after))
        acknowledged = read_state(FolderStore(root / "store"), "p", root / "cache")
        assert not acknowledged.damaged
        ledger = opened(root)
        assert set(acknowledged.done) <= set(ledger.state.done)
        reached = len(ledger.state.done) + len(ledger.here)
        assert set(ledger.state.done) | set(ledger.here) == {f"k{i:02d}" for i in range(reached)}, "in order, none lost"
        for key in list(ledger.here):
            bring(ledger, key)
        ledger.close()
        fold = read_state(FolderStore(root / "store"), "p", root / "cache 2")
        assert set(fold.done) == {f"k{i:02d}" for i in range(reached)}
        failures = sum(fold.failures.values())
        assert failures in (reached, reached - 1), "each attempt counts once, however often its segment was sent"


@pytest.fixture(scope="module", params=["in the log", "in the database"])
def left_behind(request, tmp_path_factory) -> Path:
    """What a killed session left: 8 items in the store and flushed, 4 stored, 6 done here, an upload queued."""
    root = tmp_path_factory.mktemp("left")

    def work(ledger: Ledger) -> None:
        for i in range(18):
            make(ledger, f"k{i:02d}")
            if i < 12:
                bring(ledger, f"k{i:02d}")
            if i == 7:
                ledger.flush()
        ledger.failed("f", "é" * 300)
        ledger.add_upload("figure", [(str(root / "figure.png"), "p/figures/x.png")])
        if request.param == "in the database":
            ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            ledger.begin("k17")

    killed(work, root)
    return root


def hurt_copies(root: Path, target: Path, file: str):
    """Return what happens to a copy of the left folder with one file truncated or bit-flipped, over and over."""
    data = (root / "work" / file).read_bytes()
    if not data:
        return
    step = max(1, len(data) // 10)
    cuts = {0, 1, 18, 31, 100, *range(step // 2, len(data), step), len(data) - 1}
    variants = [(f"cut {n}", data[:n]) for n in sorted(cuts) if n < len(data)]
    used = [i for i in range(len(data)) if data[i]]  # empty pages would hide most of the flips
    for position in {*used[:: max(1, len(used) // 14)], *used[:100:11]}:
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        variants.append((f"flip {position}", bytes(flipped)))
    for what, content in variants:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(root, target)
        (target / "work" / file).write_bytes(content)
        yield what


@pytest.mark.parametrize("file", ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "in-work"])
def test_database_truncated_or_flipped_anywhere_opens_and_loses_nothing_the_store_has(left_behind, tmp_path, file):
    target = tmp_path / "copy"
    for what in hurt_copies(left_behind, target, file):
        ledger = opened(target)
        done = set(ledger.state.done) | set(ledger.here)
        assert {f"k{i:02d}" for i in range(8)} <= set(ledger.state.done), what
        assert done <= {f"k{i:02d}" for i in range(18)}, what
        if len(done) < 18 and file == "ledger.sqlite" and what != "cut 0":  # an empty file is a new one
            assert ledger.notes, f"{what}: items are pending again and nobody said so"
        for upload in ledger.uploads().values():
            assert upload["files"] == [[str(left_behind / "figure.png"), "p/figures/x.png"]], what
        make(ledger, "new")
        for key in list(ledger.here):
            try:
                bring(ledger, key)
            except DamagedError:  # found hurt only now: the outbox lets it be done again
                ledger.forget(key)
                done.discard(key)
        ledger.close()
        fold = read_state(FolderStore(target / "store"), "p", target / "cache")
        assert set(fold.done) == done | {"new"} and not fold.damaged, what
        assert fold.failures.get("f", 0) <= 1


def test_database_set_aside_is_kept_and_said(tmp_path):
    killed(lambda ledger: make(ledger, "a"), tmp_path)
    (tmp_path / "work" / "ledger.sqlite").write_bytes(b"this is no database at all " * 400)
    (tmp_path / "work" / "ledger.sqlite-wal").unlink()
    ledger = opened(tmp_path)
    aside = list((tmp_path / "work").glob("damaged-*.sqlite"))
    assert len(aside) == 1 and aside[0].read_bytes().startswith(b"this is no")
    assert aside[0].name in ledger.notes[0] and "done again" in ledger.notes[0]
    assert not ledger.is_done("a")


def test_folder_that_cannot_be_written_is_not_called_damaged(tmp_path):
    (tmp_path / "work" / "ledger.sqlite").mkdir(parents=True)
    with pytest.raises(NbkitError, match="ledger"):
        opened(tmp_path)


def test_hurt_record_found_while_flushing_is_dropped_not_sent(tmp_path):
    ledger = opened(tmp_path)
    for key in "abc":
        make(ledger, key)
        bring(ledger, key)
    ledger._db.execute("UPDATE records SET line=replace(line, 'b.npz', 'X.npz') WHERE number=2")
    ledger.close()
    fold = opened(tmp_path, folder="another machine").state
    assert set(fold.done) == {"a", "c"} and any("damaged" in note for note in ledger.notes)


def test_full_disk_while_flushing_leaves_no_open_transaction(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    make(ledger, "a")
    bring(ledger, "a")
    real = ledger._db

    class Full:
        def __getattr__(self, name):
            return getattr(real, name)

        def executemany(self, *_):
            raise sqlite3.OperationalError("database or disk is full")

    ledger._db = Full()
    with pytest.raises(NbkitError, match="Free some disk space"):
        ledger.flush()
    ledger._db = real
    assert not real.in_transaction
    make(ledger, "b")
    assert opened_by_another(tmp_path / "work" / "ledger.sqlite") == 2, "b is recorded for good, not in a transaction"
    bring(ledger, "b")
    ledger.close()
    assert set(opened(tmp_path, folder="another machine").state.done) == {"a", "b"}


def opened_by_another(path: Path) -> int:
    with sqlite3.connect(path) as db:
        return db.execute("SELECT count(*) FROM records").fetchone()[0]


def test_full_disk_at_every_size_is_said_and_nothing_recorded_is_lost(tmp_path):
    """RLIMIT_FSIZE makes every write fail that would pass n bytes of a file."""

    def fill(root: Path, room: int) -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        recorded = open(root / "recorded", "w")
        try:
            ledger = opened(root, "full")
            for i in range(80):
                make(ledger, f"k{i:02d}")
                os.write(recorded.fileno(), f"k{i:02d}\n".encode())
                bring(ledger, f"k{i:02d}")
                if i % 10 == 9:
                    ledger.flush()
            ledger.close()
        except (NbkitError, OSError) as error:
            words = str(error)
            assert "full" in words or "disk space" in words or isinstance(error, OSError) and error.errno == 27, words
        except sqlite3.Error as error:
            raise AssertionError(f"a bare SQLite error: {error}") from error

    for room in (600, 4_000, 5_000, 9_000, 17_000, 30_000, 40_000, 60_000, 100_000, 10_000_000):
        root = tmp_path / str(room)
        root.mkdir()
        code = reap(fork(lambda root=root, room=room: fill(root, room), tmp_path / "log"))
        assert code == 0, (room, (tmp_path / "log").read_text())
        recorded = set((root / "recorded").read_text().split())
        ledger = opened(root)
        assert recorded <= set(ledger.state.done) | set(ledger.here), room
    assert len(recorded) == 80


def test_store_that_refuses_keeps_the_records_here(tmp_path):
    for fault in (passing, permanent):
        faulty = FaultyStore(FolderStore(tmp_path / "store"), on("put", fault))
        ledger = opened(tmp_path, f"s-{fault.__name__}", faulty)
        ledger.failed("a", "error")
        for _ in range(2):
            with pytest.raises(StoreError, match="on purpose"):
                ledger.flush()
        with pytest.raises(StoreError):
            ledger.close()
    ledger = opened(tmp_path)
    assert ledger.state.failures == {"a": 2}
    ledger.close()
    assert opened(tmp_path, folder="another machine").state.failures == {"a": 2}


def test_store_that_forbids_deleting_is_no_fault(tmp_path):
    faulty = FaultyStore(FolderStore(tmp_path / "store"), on("delete", permanent))
    ledger = opened(tmp_path, "s1", faulty)
    for i in range(40):
        ledger.failed(f"f{i}", "error")
        ledger.flush()
    ledger.close()
    assert ledger.notes and "not merged" in ledger.notes[0]
    fold = opened(tmp_path, folder="another machine").state
    assert fold.failures == {f"f{i}": 1 for i in range(40)} and not fold.damaged


def test_many_flushes_leave_few_segments(tmp_path):
    ledger = opened(tmp_path)
    for i in range(300):
        ledger.failed("a", str(i))
        ledger.flush()
    assert len(list(ledger.store.list("p/ledger/"))) <= 3 * module.MERGE
    ledger.close()
    assert len(list(ledger.store.list("p/ledger/"))) == 1
    assert opened(tmp_path, folder="another machine").state.failures == {"a": 300}


def test_vanished_copies_of_segments_leave_the_parts(tmp_path):
    ledger = opened(tmp_path)
    for i in range(3):
        ledger.failed("a", str(i))
        ledger.flush()
    shutil.rmtree(tmp_path / "work" / "segments")
    ledger.close()
    assert opened(tmp_path, folder="another machine").state.failures == {"a": 3}


def test_another_result_of_an_item_done_elsewhere_is_recorded_too(tmp_path):
    """Two sessions did one item with different bytes; the store may hold either, so both must be known."""
    killed(lambda ledger: make(ledger, "a"), tmp_path)
    other = opened(tmp_path, "other", folder="another machine")
    name = "p/items/a.npz"
    size, sha256 = write_atomically(other.local(name), lambda file: file.write(b"other bytes"))
    other.done("a", [Output(name, size, sha256)])
    bring(other, "a")
    other.close()
    ledger = opened(tmp_path)
    assert list(ledger.here) == ["a"]
    bring(ledger, "a")
    ledger.close()
    outputs = opened(tmp_path, folder="a third machine").state.done["a"]
    assert {output[2] for output in outputs} >= {sha256} and len(outputs) == 2


def test_settings_count_where_items_were_made_with_them(tmp_path):
    ledger = opened(tmp_path, "s1")
    ledger.use_settings({"sfreq": 100})
    ledger.failed("a", "error")
    ledger.close()
    ledger = opened(tmp_path, "s2")
    ledger.use_settings({"sfreq": 200})
    make(ledger, "a")
    bring(ledger, "a")
    ledger.close()
    fold = opened(tmp_path, folder="another machine").state
    assert [fold.settings[version] for version in fold.made_with] == [{"sfreq": 200}]
