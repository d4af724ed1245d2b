"""The item loop through an executor: files that mean nothing here are refused, a broken executor blames no item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import ItemTimeout, NbkitError
from nbkit.runtime.items import spread
from nbkit.runtime.items.spread import Working, workers_of
from nbkit.runtime.ledger.segments import read_state
from nbkit.tools.status.past_sessions import CountedState

ROWS = [{"key": f"k{number}"} for number in range(6)]


@pytest.fixture
def open_one(tmp_path):
    sessions = []

    def open_session(**options):
        sessions.append(nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work", **options))
        return sessions[-1]

    yield open_session
    for session in sessions:
        session._leave()


class Elsewhere(Executor):
    """Stand for another machine: what a function wrote is gone, or is another, once its answer is here."""

    def __init__(self, folder: Path, left: bytes | None) -> None:
        self.folder, self.left = folder, left

    def submit(self, function, /, *args):
        future = Future()
        future.set_result(function(*args))
        for path in self.folder.glob("*.bin"):
            path.unlink() if self.left is None else path.write_bytes(self.left)
        return future


@pytest.fixture
def writes(tmp_path):
    """Return a function that writes a file of four bytes for each row."""
    folder = tmp_path / "made"
    folder.mkdir()

    def process(row):
        path = folder / f"{row['key']}.bin"
        path.write_bytes(b"here")
        return {"file": path, "number": np.array(3)}

    return folder, process


def test_files_of_this_machine_are_kept(open_one, tmp_path, writes):
    session = open_one()
    with ThreadPoolExecutor(2) as threads:
        session.map(writes[1], ROWS, executor=threads)
    assert session.close()["complete"]
    assert (tmp_path / "store/toy/items/k3/k3.bin").read_bytes() == b"here"


@pytest.mark.parametrize(("left", "words"), [(None, "has nothing"), (b"else", "another file, of 4 bytes")])
def test_a_path_that_means_nothing_here_is_refused(open_one, writes, left, words, tmp_path):
    session = open_one()
    session.map(writes[1], ROWS, executor=Elsewhere(writes[0], left))
    error = session.ledger.state.errors["k0"]
    assert words in error and "Only arrays and text are sent" in error and "numpy.fromfile" in error
    assert session.close()["done"] == 0 and not (tmp_path / "store/toy/items").exists()


def kills_its_worker(row):
    if row["key"] == "k2":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": np.arange(3)}


def fine(row):
    return {"x": np.arange(3)}


def test_a_pool_that_broke_blames_no_item(open_one):
    session = open_one()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool, pytest.raises(NbkitError, match="BrokenProcessPool.*not recorded as"):
        session.map(kills_its_worker, ROWS, executor=pool, at_once=1)
    assert session.ledger.state.failures == {} and session.close()["done"] == 2
    again = open_one()
    with ThreadPoolExecutor(2) as threads:
        again.map(fine, ROWS, executor=threads)
    assert again.close()["complete"]


class Cancelling(Executor):
    """Stand for a cluster that went away: what was handed out comes back cancelled."""

    def submit(self, function, /, *args):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_cluster_that_went_away_blames_no_item(open_one):
    session = open_one()
    with pytest.raises(NbkitError, match="CancelledError.*Create a new executor and run again") as caught:
        session.map(fine, ROWS, executor=Cancelling())
    assert isinstance(caught.value.__cause__, CancelledError) and session.ledger.state.failures == {}


class Timed(Executor):
    """Stand for workers that say they took 7 s."""

    def submit(self, function, /, *args):
        future = Future()
        future.set_result(({"x": [1]}, 7.0))
        return future


def test_the_workers_own_time_is_recorded_and_the_wait_is_what_must_fit(open_one, tmp_path):
    session = open_one()
    session.map(fine, ROWS, executor=Timed())
    session.close()
    fold = read_state(session.store, "toy", tmp_path / "cache", CountedState())
    assert fold.tallies[session.id].seconds == 6 * 7.0
    assert session.budget.estimate("item") < 7.0, "from handing out to coming back, here"


def test_no_item_is_handed_out_that_would_not_end_in_time(open_one):
    session = open_one(limit="1h")
    session.budget.request_stop("wall")
    with ThreadPoolExecutor(2) as threads:
        session.map(fine, ROWS, executor=threads)
    assert session.close()["left"] == 6


def test_how_many_workers_there_are():
    with ThreadPoolExecutor(3) as threads:
        assert workers_of(threads) == 3
    assert workers_of(Cancelling()) == os.cpu_count()


def test_a_worker_says_so_where_its_own_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="returned the file .*gone.bin, which does not exist"):
        Working(lambda row: {"x": tmp_path / "gone.bin"})({})


class TwoParts(Exception):
    def __init__(self, path, why):
        super().__init__(f"{path}: {why}")


class WithLock(Exception):
    def __init__(self, words):
        super().__init__(words)
        self.lock = threading.Lock()


def fails_oddly(row):
    if row["key"] == "k1":
        raise TwoParts("a.edf", "no such channel")
    if row["key"] == "k2":
        raise WithLock("a.edf is locked")
    if row["key"] == "k3":
        raise SystemExit(2)
    return {"x": [1]}


@pytest.mark.kill
@pytest.mark.parametrize("whole", [False, True], ids=["as Python sends it", "with its contexts, as Dask does"])
def test_an_error_that_cannot_be_sent_fails_its_item_and_leaves_the_pool(open_one, whole):
    if whole:
        pytest.importorskip("tblib.pickling_support").install()
    session = open_one()
    with ProcessPoolExecutor(2) as pool:
        session.map(fails_oddly, ROWS, executor=pool)
    assert session.ledger.state.failures == {"k1": 1, "k2": 1, "k3": 1} and session.close()["done"] == 3
    errors = session.ledger.state.errors
    assert "TwoParts: a.edf: no such channel" in errors["k1"] and "WithLock: a.edf is locked" in errors["k2"]


def waits(row):
    time.sleep(0.3)
    return {"x": [1]}


@pytest.mark.parametrize("ahead", [-1e6, 0.0, 1e6])
@pytest.mark.parametrize("machine", ["here", "another"])
def test_a_clock_of_another_machine_ends_no_item(monkeypatch, ahead, machine):
    here = spread._clock()
    sent = time.monotonic() + (ahead if machine == "another" else 0.0)
    monkeypatch.setattr(time, "time", lambda: ahead)  # of whoever sets it meanwhile
    working = Working(waits, None, 5.0, sent, here if machine == "here" else "another machine")
    assert working({"key": "k0"})[0] == {"x": [1]}


def test_the_wait_in_a_queue_of_this_machine_counts():
    working = Working(lambda row: {"x": time.sleep(20)}, None, 5.0, time.monotonic() - 4.9, spread._clock())
    with pytest.raises(ItemTimeout, match="did not end before the wall"):
        working({"key": "k0"})
