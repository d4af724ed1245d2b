"""Parallel sessions on one remote store, killed at random, while a share of all requests fails.

The server is a process of its own. The parent has everything imported and forks a child a session, so that many real
SIGKILLs fit into a test; after about half of them the machine is wiped.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Store
from nbkit.tools.status.verify import verify_store
from tests.runtime.store.served import ServerProcess

SLUG, WORK = "storm", 0.01  # seconds of work an item


@dataclass
class Outcome:
    """Counts of a storm, and what is wrong after it."""

    kills: int = 0
    wiped: int = 0
    sessions: int = 0
    seconds: float = 0.0
    requests: int = 0
    failed: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def failing(self) -> float:
        """Share of all requests that failed."""
        return self.failed.total() / max(self.requests, 1)

    def count(self, server: ServerProcess) -> None:
        """End the server's faults, and keep what it has counted."""
        seen = server.control(rate=0.0)
        self.requests, self.failed = seen["counts"]["all"], Counter(seen["faults"])


def rows(n: int) -> list[dict[str, str]]:
    return [{"key": f"sub-{i % 5:03d}/item-{i:05d}", "seed": str(i)} for i in range(n)]


def made(row: dict[str, str]) -> np.ndarray:
    return np.random.default_rng(int(row["seed"])).standard_normal(256)


def session_once(store: Store, folder: Path, n: int, shard: str | None) -> bool:
    """Run one session; say whether its shard is complete."""
    session = open_session(SLUG, store=store, folder=folder, shard=shard)
    for item in session.work(rows(n)):
        with item:
            time.sleep(WORK)
            item.save(numbers=made(item))
    return session.close()["complete"]


def expected(root: Path, n: int, digest: Callable[[Path], str]) -> dict[str, str]:
    """Return name and digest of every file that must be there in the end: what a calm session puts into a folder."""
    pid = _fork(root / "calm.log", lambda: session_once(FolderStore(root / "calm"), root / "calm-machine", n, None))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise AssertionError(_tail(root / "calm.log"))
    items = root / "calm" / SLUG / "items"
    return {f"{SLUG}/items/{p.relative_to(items).as_posix()}": digest(p) for p in items.rglob("*.npz")}


def kill_at_random(
    root: Path,
    session: Callable[[Path, int], bool],
    outcome: Outcome,
    kills: int,
    clock: Callable[[], float],
    life: Callable[[], float],
    rng: random.Random,
    longest: float,
    most: int,
) -> None:
    """Kill three parallel sessions again and again until `kills` have died, then let them finish.

    Parameters
    ----------
    root : Path
    session : callable
        Runs a session on a machine's folder as the first, second or third worker; True where its work is complete.
    outcome : Outcome
        Counts what is done.
    kills : int
    clock, life : callable
        What a session's life is measured in, requests or seconds, and how long the next one is.
    rng : random.Random
        Decides which machines are wiped.
    longest : float
        Seconds after which a session that does not end is killed.
    most : int
        Sessions for each kill after which the storm is given up, which is a fault.
    """
    running: dict[int, tuple[int, float, float]] = {}
    machines = {worker: root / f"machine-{worker}-0" for worker in range(3)}
    waiting = list(machines)
    while waiting or running:
        now = clock()
        for worker in waiting:
            pid = _fork(root / f"words-{worker}.log", lambda w=worker: session(machines[w], w))
            end = now + life() if outcome.kills + len(running) < kills else float("inf")
            running[worker] = pid, end, time.monotonic() + longest
            outcome.sessions += 1
        waiting = []
        time.sleep(0.01)
        for worker, (pid, end, latest) in list(running.items()):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if not gone and now < end and time.monotonic() < latest:
                continue
            del running[worker]
            if not gone:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                outcome.kills += 1
                if rng.random() < 0.5:
                    shutil.rmtree(machines[worker], ignore_errors=True)
                    machines[worker] = root / f"machine-{worker}-{outcome.kills}"
                    outcome.wiped += 1
                waiting.append(worker)
            elif os.waitstatus_to_exitcode(status) == 3:  # an upload was given up: another session brings it
                waiting.append(worker)
            elif status:
                outcome.faults.append(f"a session ended with {status}: {_tail(root / f'words-{worker}.log')}")
                outcome.kills = max(outcome.kills, kills)
            if outcome.sessions > most * (kills + 3):
                outcome.faults.append("no end in sight")
                waiting = []


def check_records(store: Store, n: int, cache: Path) -> list[str]:
    """Return what is wrong with the records: an item without one, a damaged segment, a file that they contradict."""
    state, faults = read_state(store, SLUG, cache), []
    if missing := [row["key"] for row in rows(n) if row["key"] not in state.done]:
        faults.append(f"{len(missing)} items have no record, such as {missing[0]}")
    if state.damaged:
        faults.append(f"damaged segments: {state.damaged}")
    return faults + [f"verify: {name} {fault}" for name, fault in verify_store(store, [SLUG]).faults.items()]


def _fork(words: Path, work: Callable[[], bool]) -> int:
    """Do something in a forked child; its exit code is 0 where it gave True, 3 where it gave False."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(words, "a", encoding="utf-8", buffering=1)
        code = 0 if work() else 3
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tail(path: Path) -> str:
    return path.read_text("utf-8")[-1500:]
