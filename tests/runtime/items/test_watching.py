"""Items that hang: interrupted, recorded with the place where they stood, and never past the wall."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import shutil
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

import nbkit
from nbkit.runtime.errors import ItemTimeout
from nbkit.runtime.items import watching
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.children import fork, reap

ROWS = [{"key": f"k{i}"} for i in range(5)]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(watching, "_TICK", 0.02)
    monkeypatch.setattr(watching, "_AGAIN", 0.2)


def opened(root: Path, folder: str = "work", **options):
    return nbkit.open_session("p", root / "store", folder=root / folder, **options)


def sleep() -> None:
    time.sleep(60)


def compute() -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(1000))


def go_on_once() -> None:
    try:
        time.sleep(60)
    except Exception:
        time.sleep(60)


@pytest.mark.parametrize("hang", [sleep, compute, go_on_once])
def test_a_hanging_item_is_interrupted_and_the_loop_goes_on(tmp_path, capfd, hang):
    before = signal.getsignal(signal.SIGALRM)
    session, began = opened(tmp_path), time.monotonic()
    for item in session.work(ROWS, item_limit=0.3):
        with item:
            if item.key == "k2":
                hang()
            item.save(x=[1])
    assert time.monotonic() - began < 10
    summary = session.close()
    assert (summary["done"], summary["left"], summary["exit"]) == (4, 1, 3)
    error = session.ledger.state.errors["k2"]
    assert "ItemTimeout: Item k2 did not end within 0.3 s (item_limit)" in error and hang.__name__ in error
    assert "give session.work or session.map an item_limit" in "".join(capfd.readouterr())
    assert signal.getsignal(signal.SIGALRM) == before


def test_without_a_limit_many_times_the_slowest_item(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "_AT_LEAST", 0.3)
    session = opened(tmp_path)
    for item in session.work(ROWS):
        with item:
            if item.key in ("k0", "k4"):
                time.sleep(0.5 if item.key == "k0" else 60 if session._loop.watch.allowed() < 30 else 0)
            item.save(x=[1])
            assert session._loop.watch.allowed() == (None if item.key < "k3" else pytest.approx(10, rel=0.3))
            monkeypatch.setattr(watching, "_TIMES", 20 if item.key < "k3" else 1)
    assert "did not end within" in session.ledger.state.errors["k4"] and session.close()["done"] == 4


def test_an_item_that_ended_is_never_interrupted(tmp_path):
    """The limit passes all the time between two items, and while results are written."""
    session = opened(tmp_path)
    for item in session.work([{"key": f"k{i:03d}"} for i in range(60)], item_limit=0.02):
        with item:
            item.skip("test")
        time.sleep(0.03)
    assert session.close()["done"] == 60 and not session.ledger.state.failures


@pytest.mark.kill
def test_an_item_that_meets_the_wall_is_interrupted_in_time_and_set_aside_after_three_such_sessions(tmp_path):
    for number in range(4):
        session, began = opened(tmp_path, f"work-{number}", limit=3.0), time.monotonic()
        for item in session.work(ROWS[:2]):
            with item:
                if item.key == "k0":
                    time.sleep(60)
                item.save(x=[1])
        summary = session.close()
        assert time.monotonic() - began < 3.2
        assert (summary["reason"], summary["exit"]) == (("wall", 3) if number < 3 else ("complete", 1)), summary
        assert not session.ledger.state.failures
    longer = opened(tmp_path, "longer", limit=30.0)
    assert not longer.ledger.blame().aside, "it may end in a longer session"
    longer.close()


def ignore() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(60)


def take() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    time.sleep(60)


@pytest.mark.kill
@pytest.mark.parametrize("deafen", [ignore, take])
def test_an_item_that_takes_the_signal_ends_the_process_and_is_blamed(tmp_path, monkeypatch, deafen):
    monkeypatch.setattr(watching, "_STUBBORN", 0.6)

    def deaf() -> None:
        session = opened(tmp_path)
        for item in session.work(ROWS, item_limit=0.3):
            with item:
                if item.key == "k1":
                    deafen()
                item.save(x=[1])

    began = time.monotonic()
    assert reap(fork(deaf, tmp_path / "log")) == 3
    assert time.monotonic() - began < 20
    state = read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look")
    assert list(state.done) == ["k0"] and {"k1"} in [set(keys) for keys in state.claims.died.values()]


def test_an_item_that_takes_the_signal_and_ends_leaves_the_watch_over_later_ones(tmp_path):
    session = opened(tmp_path)
    for item in session.work(ROWS, item_limit=0.3):
        with item:
            if item.key == "k1":
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            if item.key == "k2":
                sleep()
            item.save(x=[1])
    assert session.close()["done"] == 4 and "did not end within 0.3 s" in session.ledger.state.errors["k2"]


@pytest.mark.kill
def test_code_that_cannot_be_interrupted_ends_the_process_at_the_wall(tmp_path):
    def hangs_in_c() -> None:
        session = opened(tmp_path, limit=4.0)
        for item in session.work(ROWS):
            with item:
                if item.key == "k1":
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
                    time.sleep(60)
                item.save(x=[1])

    began = time.monotonic()
    assert reap(fork(hangs_in_c, tmp_path / "log")) == 3
    assert 2 < time.monotonic() - began < 5
    assert "Item k1 does not end and cannot be interrupted" in (tmp_path / "log").read_text()
    state = read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look")
    assert list(state.done) == ["k0"] and {"k1"} in [set(keys) for keys in state.claims.died.values()]


def unlucky() -> None:
    """Match for years: `re` neither releases the interpreter's lock nor looks at signals."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@pytest.mark.kill
@pytest.mark.parametrize("limits", [{"item_limit": 0.3}, {"limit": 4.0}], ids=str)
def test_code_that_keeps_the_interpreters_lock_is_ended_and_blamed(tmp_path, monkeypatch, limits):
    monkeypatch.setattr(watching, "_STUBBORN", 0.5)
    monkeypatch.setattr(watching, "_LOCKED", 0.5)
    limit, item_limit = limits.get("limit"), limits.get("item_limit")

    def locked() -> None:
        session = opened(tmp_path, limit=limit)
        for item in session.work(ROWS, item_limit=item_limit):
            with item:
                if item.key == "k1":
                    unlucky()
                item.save(x=[1])
        session.close()

    began = time.monotonic()
    assert reap(fork(locked, tmp_path / "log")) == 1
    assert 1 < time.monotonic() - began < 8
    shutil.rmtree(tmp_path / "work")  # the machine is gone, too
    order, session = [], opened(tmp_path)
    for item in session.work(ROWS):
        with item:
            order.append(item.key)
            item.save(x=[1])
    assert order[-1] == "k1", "what was in work then comes last"
    assert session.close()["done"] == 5


def test_the_timer_in_c_ends_with_its_item(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **more: calls.append(seconds))
    monkeypatch.setattr("faulthandler.cancel_dump_traceback_later", lambda: calls.append("ended"))
    session = opened(tmp_path, limit="1h")
    for item in session.work(ROWS[:2], item_limit="2h"):
        with item:
            item.save(x=[1])
    session.close()
    assert calls == [pytest.approx(3630, rel=0.1), "ended"] * 2
    calls.clear()
    session = opened(tmp_path, folder="other", limit=None)
    for item in session.work(ROWS):
        with item:
            item.save(x=[1])
    session.close()
    assert calls == [], "without a limit nothing is ended"


def test_a_signal_to_end_blames_no_item(tmp_path, monkeypatch):
    monkeypatch.setattr("nbkit.runtime.budget._GRACE", 1.0)
    session, began = opened(tmp_path), time.monotonic()
    for item in session.work(ROWS):
        with item:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    summary = session.close()
    assert time.monotonic() - began < 3 and (summary["reason"], summary["done"]) == ("SIGTERM", 0)
    assert not session.ledger.blame().deaths and not session.ledger.state.claims.died


def hangs(row):
    time.sleep(60 if row["key"] == "k1" else 0)
    return {"x": [1]}


@pytest.mark.kill
def test_workers_that_are_processes_are_interrupted(tmp_path):
    session, began = opened(tmp_path), time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        session.map(hangs, ROWS, executor=pool, item_limit=0.5)
    assert time.monotonic() - began < 15
    assert "did not end within 0.5 s" in session.ledger.state.errors["k1"] and session.close()["done"] == 4


@pytest.mark.kill
def test_a_thread_that_hangs_does_not_keep_the_session_past_the_wall(tmp_path):
    def with_threads() -> None:
        session = opened(tmp_path, limit=4.0)
        with ThreadPoolExecutor(2) as pool:
            session.map(hangs, ROWS, executor=pool)

    began = time.monotonic()
    assert reap(fork(with_threads, tmp_path / "log")) == 3
    assert time.monotonic() - began < 5
    assert set(read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look").done) == {"k0", "k2", "k3", "k4"}


def test_outside_of_the_main_thread_it_is_said(tmp_path, capfd):
    session = opened(tmp_path)
    thread = threading.Thread(target=lambda: list(session.map(hangs, ROWS[:1], item_limit="1h") or []))
    thread.start()
    thread.join()
    assert "cannot be interrupted outside of the main thread" in "".join(capfd.readouterr())
    session.close()


def test_the_error_comes_back_from_a_worker_whole():
    error = pickle.loads(pickle.dumps(ItemTimeout("words", wall=True)))
    assert (str(error), error.wall) == ("words", True)


@pytest.mark.parametrize("executor", [None, lambda: ThreadPoolExecutor(2)], ids=["here", "threads"])
def test_the_thread_that_watches_ends_with_the_loop_and_comes_back_with_the_next(tmp_path, executor):
    def watching() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "watch" and thread not in before]

    before = threading.enumerate()
    session = opened(tmp_path)
    for rows in (ROWS[:2], ROWS):
        with executor() if executor else contextlib.nullcontext() as pool:
            session.map(lambda row: {}, rows, executor=pool)
        end = time.monotonic() + 5
        while watching() and time.monotonic() < end:
            time.sleep(0.02)
        assert not watching()
    session.close()
