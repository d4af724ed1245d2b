"""Two sessions on one manifest, also where the store's listings lag: nothing lost, little done twice, no harm."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.children import fork, reap, wait_until
from tests.runtime.store.faulty_store import LaggingStore

pytestmark = pytest.mark.kill

N = 80


def rows(n: int = N) -> list[dict[str, str]]:
    return [{"key": f"k{i:03d}", "seed": str(i)} for i in range(n)]


def session_once(
    root: Path,
    lag: float,
    folder: Path,
    shard: str | None = None,
    pause: float = 0.01,
    begun: Callable[[str], None] = lambda key: None,
) -> None:
    """Run one session in this process and note each item that it really does; `begun` is called in front of each."""
    outbox_module._FLUSH_EVERY, outbox_module._REFRESH_EVERY = 0.05, 0.1
    session = open_session("two", LaggingStore(root / "store", lag), folder=folder, shard=shard)
    for item in session.work(rows()):
        with item:
            begun(item.key)
            with open(root / "executions.log", "ab", buffering=0) as log:
                log.write(f"{session.id} {item.key}\n".encode())
            time.sleep(pause)
            item.save(x=np.full(32, int(item["seed"])))
    summary = session.close()
    assert summary["complete"] and not summary["failed"], summary


def executions(root: Path) -> Counter:
    return Counter(line.split()[1] for line in (root / "executions.log").read_text().splitlines())


def check(root: Path) -> None:
    """Every item is recorded, and its output is what a single session would have made."""
    fold = read_state(FolderStore(root / "store"), "two", root / "check")
    assert set(fold.done) == {row["key"] for row in rows()} and not fold.damaged and not fold.failures
    for row in rows():
        outputs = fold.done[row["key"]]
        assert len(outputs) == 1, "both made the same bytes, so the union is one"
        with np.load(root / "store" / outputs[0][0]) as arrays:
            assert (arrays["x"] == int(row["seed"])).all()


@pytest.mark.parametrize("lag", [0.0, 1.5])
def test_two_processes_at_once(tmp_path, lag):
    children = [fork(lambda i=i: session_once(tmp_path, lag, tmp_path / f"work-{i}"), tmp_path / "log")
                for i in range(2)]  # fmt: skip
    assert [reap(pid) for pid in children] == [0, 0], (tmp_path / "log").read_text()
    done = executions(tmp_path)
    assert set(done) == {row["key"] for row in rows()} and max(done.values()) <= 2
    check(tmp_path)


def test_second_session_that_begins_later_does_little_twice(tmp_path):
    lag, at_work = 0.6, tmp_path / "the second is at work"

    def wait_in_the_middle(key: str) -> None:
        if key == rows()[N // 2]["key"]:
            wait_until(at_work.exists)

    def seen() -> bool:
        return bool(read_state(LaggingStore(tmp_path / "store", lag), "two", tmp_path / "look").done)

    first = fork(lambda: session_once(tmp_path, lag, tmp_path / "work-0", begun=wait_in_the_middle), tmp_path / "log")
    wait_until(seen)
    second = fork(
        lambda: session_once(tmp_path, lag, tmp_path / "work-1", begun=lambda key: at_work.touch()), tmp_path / "log"
    )
    assert [reap(first), reap(second)] == [0, 0], (tmp_path / "log").read_text()
    by_session: dict[str, list[str]] = {}
    for line in (tmp_path / "executions.log").read_text().splitlines():
        session, key = line.split()
        by_session.setdefault(session, []).append(key)
    early, late = by_session.values()
    assert late[0] > early[0], "the second goes on from what it saw done"
    assert len(late) < N
    check(tmp_path)


def test_kills_of_either_lose_nothing(tmp_path):
    rng = np.random.default_rng(5)
    for _ in range(4):
        children = [fork(lambda i=i: session_once(tmp_path, 0.5, tmp_path / f"work-{i}"), tmp_path / "log")
                    for i in range(2)]  # fmt: skip
        for pid in children:
            time.sleep(rng.uniform(0.1, 0.35))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        time.sleep(0.6)  # longer than the lag: what was acknowledged can be seen
    assert reap(fork(lambda: session_once(tmp_path, 0.0, tmp_path / "work-0"), tmp_path / "log")) == 0
    check(tmp_path)
    assert sum(executions(tmp_path).values()) <= 2 * N + 11, "once a folder, once more what a kill hit"


def test_shards_do_disjoint_work_that_adds_up(tmp_path):
    children = [fork(lambda i=i: session_once(tmp_path, 1.0, tmp_path / f"work-{i}", f"{i}/3"), tmp_path / "log")
                for i in (1, 2, 3)]  # fmt: skip
    assert [reap(pid) for pid in children] == [0, 0, 0], (tmp_path / "log").read_text()
    assert executions(tmp_path) == Counter({row["key"]: 1 for row in rows()})
    check(tmp_path)


def test_sessions_of_one_machine_take_lanes_of_their_own(tmp_path):
    children = [fork(lambda: session_once(tmp_path, 0.0, tmp_path / "work"), tmp_path / "log") for _ in range(3)]
    assert [reap(pid) for pid in children] == [0, 0, 0], (tmp_path / "log").read_text()
    lanes = {p.name for p in (tmp_path / "work" / "two").iterdir()}
    # one that looks into a lane holds it for a moment, and another one that begins then takes the next
    assert {"lane-0", "lane-1", "lane-2"} <= lanes <= {f"lane-{number}" for number in range(6)}
    check(tmp_path)


def test_lane_with_work_of_a_killed_session_is_taken_first(tmp_path):
    """lane-0 is free and empty, lane-1 holds what a killed session did not bring to the store."""
    holder = open_session("two", tmp_path / "store", folder=tmp_path / "work")

    def killed() -> None:
        session = open_session("two", tmp_path / "store", folder=tmp_path / "work")
        session.result("a", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
        session.ledger.failed("k000", "error")
        os.kill(os.getpid(), signal.SIGKILL)

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL
    holder.close()
    session = open_session("two", tmp_path / "store", folder=tmp_path / "work")
    assert session.folder.name == "lane-1" and session.ledger.state.failures == {"k000": 1}
    session.close()
    session = open_session("two", tmp_path / "store", folder=tmp_path / "work")
    assert session.folder.name == "lane-0"
    session.close()


def test_lane_is_free_after_a_kill_though_a_worker_of_the_session_lives_on(tmp_path):
    def killed() -> None:
        open_session("two", tmp_path / "store", folder=tmp_path / "work")
        worker = os.fork()
        if not worker:
            time.sleep(30)
            os._exit(0)
        (tmp_path / "worker").write_text(str(worker))
        os.kill(os.getpid(), signal.SIGKILL)

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL
    try:
        session = open_session("two", tmp_path / "store", folder=tmp_path / "work")
        assert session.folder.name == "lane-0"
        session.close()
    finally:
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
