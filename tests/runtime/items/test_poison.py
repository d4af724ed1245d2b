"""Items that take their machine down, with the machine's disk lost each time: all others are done, these are named."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import nbkit
from nbkit.runtime.items import claiming
from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.status import read_phase
from tests.runtime.children import die, fork, reap
from tests.runtime.store.faulty_store import FaultyStore, on, passing

pytestmark = pytest.mark.kill


def rows(n: int) -> list[dict[str, str]]:
    return [{"key": f"k{i:03d}"} for i in range(n)]


def session_once(root: Path, n: int, killers: set[str], work_s: float, store: object = None, **options) -> None:
    """Run one session whose machine goes down with certain items."""
    session = nbkit.open_session("p", store or root / "store", folder=root / "work")
    for item in session.work(rows(n), **options):
        with item:
            with open(root / "begun", "a") as log:
                log.write(f"{item.key}\n")
            if item.key in killers:
                die()
            time.sleep(work_s)
            item.save(x=[int(item.key[1:])])
    summary = session.close()
    (root / "summary").write_text(f"{summary['complete']} {summary['left']} {summary['failed']} {summary['exit']}")


def until_closed(root: Path, n: int, killers: set[str], work_s: float = 0.001, wipe: bool = True, **options) -> int:
    """Run sessions until one closes; return how many died."""
    for deaths in range(20):
        code = reap(fork(lambda: session_once(root, n, killers, work_s, **options), root / "log"))
        if wipe:
            shutil.rmtree(root / "work")
        if code == 0:
            return deaths
        assert code == -signal.SIGKILL, (root / "log").read_text()[-3000:]
    raise AssertionError(f"no end after {deaths + 1} deaths: {(root / 'log').read_text()[-3000:]}")


@pytest.mark.parametrize("wipe", [True, False], ids=["wiped", "kept"])
@pytest.mark.parametrize("place", [0, 1, 13, 39])
def test_a_killer_is_set_aside_after_three_deaths_and_all_others_are_done(tmp_path, place, wipe):
    killer = f"k{place:03d}"
    deaths = until_closed(tmp_path, 40, {killer}, wipe=wipe)
    assert 3 <= deaths <= 4, "three that are certainly its own, and one among others"
    state = read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look")
    assert set(state.done) == {row["key"] for row in rows(40)} - {killer}
    assert (tmp_path / "summary").read_text() == "True 0 1 1"
    said = (tmp_path / "log").read_text()
    assert re.search(rf"set aside  {killer} \(its machine died [34] times\); retry_failed=True tries again", said)
    status = read_phase(FolderStore(tmp_path / "store"), "p", None, tmp_path / "look")
    assert (status.state, status.failed, status.left) == ("complete, some failed", 1, 0) and killer in status.set_aside
    assert until_closed(tmp_path, 40, {killer}) == 0, "and it does not come back by itself"


def test_several_killers(tmp_path):
    killers = {"k000", "k007", "k008", "k029"}
    deaths = until_closed(tmp_path, 30, killers)
    assert 12 <= deaths <= 16
    assert (tmp_path / "summary").read_text() == "True 0 4 1"
    state = read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look")
    assert set(state.done) == {row["key"] for row in rows(30)} - killers


def test_nothing_but_a_killer(tmp_path):
    assert until_closed(tmp_path, 1, {"k000"}) == 3


def test_a_healed_item_comes_back_on_demand(tmp_path):
    until_closed(tmp_path, 5, {"k002"})
    assert until_closed(tmp_path, 5, set(), retry_failed=True) == 0
    assert (tmp_path / "summary").read_text() == "True 0 0 0"
    assert not read_phase(FolderStore(tmp_path / "store"), "p", None, tmp_path / "look").set_aside


def test_the_killer_of_a_large_claim_is_found_by_smaller_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(claiming, "_GROWTH", 10**6)
    deaths = until_closed(tmp_path, 300, {"k200"}, work_s=0.0)
    assert deaths == 5, "299 suspects, then 9, then itself three times"
    begun = Counter((tmp_path / "begun").read_text().split())
    assert max(n for key, n in begun.items() if key != "k200") <= 4, "of each death the items of one claim at most"


def test_random_kills_with_the_disk_lost_set_nothing_aside(tmp_path):
    rng = random.Random(3)
    outbox_module._FLUSH_EVERY, before = 0.05, outbox_module._FLUSH_EVERY
    try:
        for kill in range(40):
            kills = kill
            pid = fork(lambda: session_once(tmp_path, 24, set(), 0.02), tmp_path / "log")
            time.sleep(rng.uniform(0.05, 0.2))
            os.kill(pid, signal.SIGKILL)
            code = reap(pid)
            shutil.rmtree(tmp_path / "work", ignore_errors=True)
            if code == 0:
                break
        until_closed(tmp_path, 24, set())
    finally:
        outbox_module._FLUSH_EVERY = before
    assert kills > 8 and (tmp_path / "summary").read_text() == "True 0 0 0"


def test_the_store_knows_the_item_before_it_begins(tmp_path):
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    for item in session.work(rows(30)):
        with item:
            claims = read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look").claims
            assert item.key in claims.open_claim(session.id)[1]
            item.skip("test")
    assert session.close()["complete"] and session.ledger.state.failures == {}


def test_a_store_that_fails_or_is_slow_does_not_stop_the_work(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(claiming, "_PATIENCE", 0.2)
    faulty = FaultyStore(FolderStore(tmp_path / "store"), on("put", passing, lambda call: call < 4))
    session_once(tmp_path, 5, set(), 0.0, faulty)
    assert (tmp_path / "summary").read_text() == "True 0 0 0"
    slow = FaultyStore(FolderStore(tmp_path / "slow"), slow=0.5)
    began = time.monotonic()
    session = nbkit.open_session("p", slow, folder=tmp_path / "work", limit=60)
    for item in session.work(rows(3)):
        with item:
            item.skip("test")
    assert time.monotonic() - began < 10 and "takes long to record which item comes next" in "".join(capfd.readouterr())
    session.close()


def test_an_interrupt_blames_no_item(tmp_path):
    for _ in range(4):
        session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
        with pytest.raises(KeyboardInterrupt), session:
            for item in session.work(rows(3)):
                with item:
                    raise KeyboardInterrupt
        shutil.rmtree(tmp_path / "work")
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    blame = session.ledger.blame()
    assert not blame.suspects and not blame.deaths and not blame.aside
    session.close()


def test_the_item_of_a_session_that_lives_is_not_set_aside(tmp_path, monkeypatch):
    """Three sessions at work on the last item, none of which has died."""
    sessions = []
    for i in range(3):
        sessions.append(nbkit.open_session("p", tmp_path / "store", folder=tmp_path / f"work-{i}"))
        loop = sessions[-1].work(rows(1))
        time.sleep(0.002)
        assert next(loop).key == "k000", "none is done, so each takes it"
        sessions.append(loop)  # keeps the item in work
    for session in sessions[:4:2]:  # the last one has not had to show life since another opened
        monkeypatch.setattr(claiming, "_BEAT", 0.0)
        session._loop.claiming.beat()
        session.ledger.flush()
    last = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "last")
    assert not last.ledger.blame().aside and last.ledger.blame().suspects
    last.close()
    for session in sessions[::2]:
        session._leave()


def test_claims_cost_little(tmp_path):
    store = FaultyStore(FolderStore(tmp_path / "store"))
    session = nbkit.open_session("p", store, folder=tmp_path / "work")
    for item in session.work(rows(200)):
        with item:
            item.skip("nothing to do")
    segments = [name for verb, name in store.names if verb == "put" and "/ledger/" in name]
    assert session._loop.claiming.number <= 6 and len(segments) < 16
    session.close()


def test_kills_from_outside_that_are_known_blame_no_item(tmp_path, monkeypatch):
    names = []
    for _ in range(4):
        assert reap(fork(lambda: session_once(tmp_path, 2, {"k000"}, 0.0), tmp_path / "log")) == -signal.SIGKILL
        shutil.rmtree(tmp_path / "work")
        names = list(read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look").claims.opened)
        monkeypatch.setenv("NBKIT_KILLED", ",".join([*names, "unknown"]))
    assert until_closed(tmp_path, 2, set()) == 0
    assert (tmp_path / "summary").read_text() == "True 0 0 0" and len(names) == 4


def makes(row):
    if row["key"] == "k005":
        os.kill(os.getpid() if row["kills"] == "worker" else os.getppid(), signal.SIGKILL)
        time.sleep(5)
    return {"x": [1]}


@pytest.mark.parametrize("kills", ["worker", "machine"])
def test_a_killer_in_an_executor_is_set_aside_and_all_others_are_done(tmp_path, kills):
    table = [row | {"kills": kills} for row in rows(12)]

    def once() -> None:
        os.setsid()
        session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
        with session, ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            session.map(makes, table, executor=pool)

    deaths = 0
    while (code := reap(pid := fork(once, tmp_path / "log"))) != 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # its workers, which outlive it here
        deaths += 1
        shutil.rmtree(tmp_path / "work")
        assert deaths < 8 and code == (1 if kills == "worker" else -signal.SIGKILL), (tmp_path / "log").read_text()[
            -3000:
        ]
    assert 3 <= deaths <= 5, (tmp_path / "log").read_text()[-3000:]
    status = read_phase(FolderStore(tmp_path / "store"), "p", None, tmp_path / "look")
    assert (status.done, status.state) == (11, "complete, some failed") and "k005" in status.set_aside
