"""Uploads beside the work: bounded, named, in order, and never forgotten."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from nbkit.runtime.budget import Budget
from nbkit.runtime.ledger import outbox as module
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.outbox import BOUND, Outbox
from nbkit.runtime.store import retried
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.children import die, fork, reap, wait_until
from tests.runtime.ledger.test_ledger import make
from tests.runtime.store.faulty_store import FaultyStore, on, passing, permanent


class Desk:
    """A ledger, a store and an outbox, and what it said."""

    def __init__(self, root: Path, store: FaultyStore | None = None, limit: float | None = None, **options) -> None:
        self.root = root
        self.store = store or FaultyStore(FolderStore(root / "store"))
        self.ledger = Ledger(root / "work", "p", f"s{time.time_ns()}", self.store.inner)
        self.said: list[str] = []
        self.outbox = Outbox(self.ledger, self.store, Budget(limit), say=self.said.append, **options)

    def file(self, name: str, content: str = "x") -> Path:
        path = self.root / "made" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    def stored(self) -> list[str]:
        return [s.name for s in self.store.inner.list() if "/ledger/" not in s.name]

    def end(self) -> None:
        self.outbox.close()
        self.ledger.release()


@pytest.fixture
def desk(tmp_path):
    desks: list[Desk] = []

    def opened(*args, **options) -> Desk:
        desks.append(Desk(tmp_path, *args, **options))
        return desks[-1]

    yield opened
    for one in desks:
        if one.store.fault is None or not isinstance(one.store.fault, Gate):
            one.end()


class Gate:
    """A fault that is none: it holds every put until it is opened."""

    def __init__(self) -> None:
        self.open, self.within, self.most = threading.Event(), 0, 0
        self.lock = threading.Lock()

    def __call__(self, verb: str, name: str, call: int) -> None:
        if verb != "put":
            return
        with self.lock:
            self.within += 1
            self.most = max(self.most, self.within)
        self.open.wait(20)
        with self.lock:
            self.within -= 1


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retried, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(retried.Retried.__init__, "__defaults__", (3, 0.001, None))
    monkeypatch.setattr(module, "_TICK", 0.02)
    monkeypatch.setattr(module, "_AGAIN_EVERY", 0.05)


def test_items_and_files_reach_the_store_and_items_then_count_as_stored(desk):
    d = desk()
    for key in "abc":
        make(d.ledger, key)
        d.outbox.send_item(key)
    d.outbox.send([(d.file("f.png"), "p/figures/f.png")], "figure")
    assert d.outbox.drain(20) == []
    assert d.stored() == ["p/figures/f.png", "p/items/a.npz", "p/items/b.npz", "p/items/c.npz"]
    assert set(d.ledger.state.done) == set("abc") and not d.ledger.here and not d.ledger.uploads()
    assert not list((d.root / "work" / "outputs").rglob("*.npz")), "what the store has leaves this disk"


def test_queue_bound_makes_send_wait(desk):
    gate = Gate()
    d = desk(FaultyStore(FolderStore(Path("unused")), gate))
    d.store.inner = FolderStore(d.root / "store")
    sent = []

    def send_many() -> None:
        for i in range(BOUND + 8):
            d.outbox.send([(d.file(f"{i}"), f"p/{i}")], f"{i}")
            sent.append(i)

    thread = threading.Thread(target=send_many, daemon=True)
    thread.start()
    wait_until(lambda: len(d.outbox.waiting()) == BOUND + module.THREADS + 1)
    time.sleep(0.2)
    assert len(sent) == BOUND + module.THREADS, "two are being sent, eight wait, the next waits to be queued"
    assert len(d.outbox.waiting()) == BOUND + module.THREADS + 1, "what waits to be queued is noted already"
    gate.open.set()
    thread.join(20)
    assert d.outbox.drain(20) == [] and len(d.stored()) == BOUND + 8
    assert gate.most == module.THREADS, "two threads really upload side by side"
    d.end()


def test_files_of_a_upload_go_in_their_order_and_then_comes_last(desk):
    d = desk()
    seen: list[list[str]] = []
    files = [(d.file(n), f"p/{n}") for n in ("z.ckpt", "m.jsonl", "a.json")]
    d.outbox.send(files, "step 1", lambda: seen.append(d.stored()))
    d.outbox.drain(20)
    d.end()
    assert seen == [["p/a.json", "p/m.jsonl", "p/z.ckpt"]]
    assert [n for verb, n in d.store.names if verb == "put"] == ["p/z.ckpt", "p/m.jsonl", "p/a.json"]


def test_then_does_not_run_while_one_file_is_missing_in_the_store(desk):
    ran = threading.Event()
    d = desk(FaultyStore(FolderStore(Path("unused")), lambda verb, name, n: on("put", permanent)(verb, name, n)
                         if name.endswith("2") else None))  # fmt: skip
    d.store.inner = FolderStore(d.root / "store")
    d.outbox.send([(d.file("1"), "p/1"), (d.file("2"), "p/2")], "two", ran.set)
    assert d.outbox.drain(20) == ["p/1", "p/2"] and not ran.is_set()
    assert d.stored() == ["p/1"] and any("Not in the store yet" in words for words in d.said)


def test_a_failing_then_is_said_and_ends_nothing(desk):
    d = desk()
    d.outbox.send([(d.file("1"), "p/1")], "one", lambda: 1 / 0)
    d.outbox.drain(20)
    d.outbox.send([(d.file("2"), "p/2")], "two")
    assert d.outbox.drain(20) == [] and d.stored() == ["p/1", "p/2"]
    assert any("ZeroDivisionError" in words for words in d.said)


def test_upload_whose_file_vanished_is_dropped_with_what_follows_it(desk):
    d = desk(FaultyStore(FolderStore(Path("unused")), Gate()))
    d.store.inner = FolderStore(d.root / "store")
    ran = threading.Event()
    blockers = [(d.file(f"b{i}"), f"p/b{i}") for i in range(2)]
    for file in blockers:
        d.outbox.send([file], "blocker")
    gone = d.file("gone.ckpt")
    d.outbox.send([(gone, "p/gone.ckpt"), (d.file("gone.json"), "p/gone.json")], "step 7", ran.set)
    gone.unlink()
    d.store.fault.open.set()
    assert d.outbox.drain(20) == [] and not ran.is_set()
    assert d.stored() == ["p/b0", "p/b1"], "a receipt without its checkpoint means nothing"
    assert any("step 7" in words and "gone.ckpt" in words for words in d.said)
    d.end()


@pytest.mark.parametrize("hurt", ["vanished", "changed"])
def test_output_that_vanished_or_changed_before_its_upload_is_done_again(desk, hurt):
    d = desk()
    make(d.ledger, "a")
    path = d.ledger.local("p/items/a.npz")
    if hurt == "vanished":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().upper())
    d.outbox.send_item("a")
    d.outbox.drain(20)
    assert not d.ledger.is_done("a") and any("done again" in words for words in d.said)


def test_two_versions_of_one_name_end_with_the_newer(desk):
    for attempt in range(20):
        d = desk()
        path = d.file("results.json", f"old {attempt}")
        d.outbox.send([(path, "p/results.json")], "results")
        path.write_text(f"newer {attempt}")
        d.outbox.send([(path, "p/results.json")], "results")
        assert d.outbox.waiting() in ([], ["p/results.json"])
        assert d.outbox.drain(20) == []
        d.end()
        assert (d.root / "store" / "p" / "results.json").read_text() == f"newer {attempt}"
        assert not d.said, d.said


def test_uploads_left_over_by_a_kill_are_sent_by_the_next_session(desk, tmp_path):
    def child() -> None:
        d = Desk(tmp_path, FaultyStore(FolderStore(tmp_path / "store"), Gate()))
        for key in ("a", "b", "c"):
            make(d.ledger, key)
            d.outbox.send_item(key)
        d.outbox.send([(d.file("f.png"), "p/f.png")], "figure")
        die()

    assert reap(fork(child, tmp_path / "log")) == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert list(FolderStore(tmp_path / "store").list()) == []
    d = desk()
    assert d.outbox.drain(20) == []
    assert d.stored() == ["p/f.png", "p/items/a.npz", "p/items/b.npz", "p/items/c.npz"]
    assert set(d.ledger.state.done) == {"a", "b", "c"}


def test_permanent_refusals_keep_everything_name_it_and_stop(desk, tmp_path):
    d = desk(FaultyStore(FolderStore(tmp_path / "store"), on("put", permanent)))
    for i in range(12):
        make(d.ledger, f"k{i:02d}")
        d.outbox.send_item(f"k{i:02d}")
    names = [f"p/items/k{i:02d}.npz" for i in range(12)]
    assert d.outbox.drain(20) == names
    assert d.outbox.refused is not None and any("refused 5 uploads in a row" in words for words in d.said)
    assert d.store.calls["put"] <= 5 + module.THREADS + BOUND, "a store that is gone is not asked for ever"
    assert len(d.said) <= 16
    d.end()
    healthy = desk()
    assert healthy.outbox.drain(20) == [] and healthy.stored() == names


def test_outage_is_waited_for_and_the_work_goes_on(desk, tmp_path):
    back = time.monotonic() + 0.8
    outage = on("put", lambda *call: passing(*call) if time.monotonic() < back else None)
    d = desk(FaultyStore(FolderStore(tmp_path / "store"), outage))
    queued = []
    for i in range(30):
        make(d.ledger, f"k{i:02d}")
        d.outbox.send_item(f"k{i:02d}")
        queued.append(time.monotonic())
        if time.monotonic() < back:
            assert i <= BOUND + 2 * module.THREADS, "the bound holds through an outage"
    assert d.outbox.drain(20) == [] and len(d.stored()) == 30 and d.outbox.refused is None
    assert queued[-1] > back and not d.outbox.faults


def test_outage_without_end_stops_the_work_after_the_patience(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    d = desk(FaultyStore(FolderStore(tmp_path / "store"), passing))
    for i in range(20):
        make(d.ledger, f"k{i:02d}")
        d.outbox.send_item(f"k{i:02d}")
        if d.outbox.refused:
            break
    assert d.outbox.refused is not None and any("has accepted nothing" in words for words in d.said)
    assert len(d.outbox.drain(5)) == i + 1


def test_drain_tries_again_what_fails_while_it_waits(desk, tmp_path):
    """Seen under load: two threads' retries fell on the failing calls only, and drain() returned with time left."""
    rounds = iter([passing] * 12)  # three full rounds of four tries
    d = desk(
        FaultyStore(FolderStore(tmp_path / "store"), on("put", lambda *call: next(rounds, lambda *c: None)(*call)))
    )
    make(d.ledger, "a")
    d.outbox.send_item("a")
    assert d.outbox.drain() == [] and len(d.stored()) == 1


def test_drain_ends_when_its_time_is_up(desk, tmp_path):
    d = desk(FaultyStore(FolderStore(tmp_path / "store"), Gate()))
    d.outbox.send([(d.file("1"), "p/1")], "one")
    began = time.monotonic()
    assert d.outbox.drain(0.2) == ["p/1"]
    assert time.monotonic() - began < 10
    d.store.fault.open.set()
    assert d.outbox.drain(20) == []
    d.end()


def test_full_disk_under_the_ledger_ends_no_thread(desk, monkeypatch):
    from nbkit.runtime.ledger.database import not_recorded

    d = desk()
    make(d.ledger, "a")
    real = d.ledger.stored
    monkeypatch.setattr(d.ledger, "stored", lambda key: (_ for _ in ()).throw(not_recorded(d.root, OSError("full"))))
    monkeypatch.setattr(
        d.ledger, "flush", lambda store, beat: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    monkeypatch.setattr(module, "_FLUSH_EVERY", 0.05)
    d.outbox.send_item("a")
    wait_until(lambda: "ledger" in d.outbox.faults)
    assert d.outbox.drain(1) == ["p/items/a.npz"] and not any("Traceback" in words for words in d.said), d.said
    assert "No space left" in d.outbox.faults["ledger"]
    monkeypatch.setattr(d.ledger, "stored", real)
    assert all(thread.is_alive() for thread in d.outbox._threads)
    d.outbox.send_item("a")
    assert d.outbox.drain(20) == []


def test_slow_store_after_close_says_no_traceback(desk, tmp_path):
    d = desk(FaultyStore(FolderStore(tmp_path / "store"), Gate()), limit=0.2)
    make(d.ledger, "a")
    d.outbox.send_item("a")
    time.sleep(0.3)
    assert d.outbox.drain(0) == ["p/items/a.npz"]
    d.end()
    d.store.fault.open.set()
    for thread in d.outbox._threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not any("Traceback" in words for words in d.said), d.said
    healthy = desk()
    assert healthy.outbox.drain(20) == [] and healthy.ledger.is_done("a")


@pytest.mark.parametrize(
    "fault", [KeyError("title"), TypeError("str"), ZeroDivisionError(), MemoryError(), OSError(28, "full")]
)
@pytest.mark.parametrize("times", [1, 2, 50])
def test_an_upload_that_fails_unforeseen_is_tried_again_some_times_and_named(desk, fault, times):
    left = {"p/items/b.npz": times, "p/f": times}

    def stumble(verb: str, name: str, call: int) -> None:
        if verb == "put" and left.get(name, 0) > 0:
            left[name] -= 1
            raise fault

    d = desk(FaultyStore(FolderStore(Path("unused")), stumble))
    d.store.inner = FolderStore(d.root / "store")
    for key in "abc":
        make(d.ledger, key)
        d.outbox.send_item(key)
    d.outbox.send([(d.file("f"), "p/f")], "figure")
    waiting = d.outbox.drain(20)
    tries = module._STUMBLES
    assert sorted(waiting) == ([] if times < tries else ["p/f", "p/items/b.npz"])
    assert set("ac") <= set(d.ledger.state.done) and d.outbox.refused is None
    said = "\n".join(d.said)
    assert said.count("Traceback") == (2 if isinstance(fault, KeyError | TypeError | ZeroDivisionError) else 0)
    assert said.count("Not in the store yet: b:") == 1 and not any("b" == one for one in d.outbox.faults) == (
        times < tries
    )
    left.clear()
    d.end()
    again = desk()
    assert again.outbox.drain(20) == [] and set(again.ledger.state.done) == set("abc"), "the next session sends it"


def test_threads_outlive_a_connection_that_fails(desk, monkeypatch):
    failing = [True]
    connect = FaultyStore.connect

    def refuse(self):
        if failing[0]:
            raise OSError(5, "no connection")
        return connect(self)

    monkeypatch.setattr(FaultyStore, "connect", refuse)
    d = desk()
    make(d.ledger, "a")
    d.outbox.send_item("a")
    threads = list(d.outbox._threads)
    wait_until(lambda: "the queue" in d.outbox.faults)
    failing[0] = False
    assert d.outbox.drain(20) == [] and d.outbox._threads == threads
