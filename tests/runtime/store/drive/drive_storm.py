"""Parallel sessions on one Drive folder, killed at random, while a share of all requests fails.

The Drive is a process of its own. The parent has everything imported and forks a child a session, so that many real
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
from functools import partial
from pathlib import Path

import numpy as np

from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Store
from nbkit.tools.status.verify import verify_store
from tests.runtime.store.drive.drive_loopback import LoopbackProcess
from tests.runtime.store.drive.drive_state import md5_of

SLUG, WORK = "storm", 0.01  # seconds of work an item


@dataclass
class Outcome:
    """Say what a storm did, and what is wrong after it."""

    kills: int = 0
    wiped: int = 0
    sessions: int = 0
    seconds: float = 0.0
    requests: int = 0
    failed: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    stored_twice: int = 0

    @property
    def failing(self) -> float:
        """Share of all requests that failed."""
        return self.failed.total() / max(self.requests, 1)


def rows(n: int) -> list[dict[str, str]]:
    return [{"key": f"sub-{i % 5:03d}/item-{i:05d}", "seed": str(i)} for i in range(n)]


def made(row: dict[str, str]) -> np.ndarray:
    return np.random.default_rng(int(row["seed"])).standard_normal(256)


def expected(root: Path, n: int) -> dict[str, str]:
    """Return name and MD5 of every file that must be there in the end: what a calm session puts into a folder."""
    pid = _fork(root / "calm.log", lambda: session_once(FolderStore(root / "calm"), root / "calm-machine", n, None))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise AssertionError(_tail(root / "calm.log"))
    items = root / "calm" / SLUG / "items"
    return {f"{SLUG}/items/{p.relative_to(items).as_posix()}": md5_of(p) for p in items.rglob("*.npz")}


def drive_store(drive: LoopbackProcess) -> DriveStore:
    credential = read_credential(drive.credential, "the test")
    return DriveStore(drive.url.removeprefix("gdrive://"), credential, first_wait=0.05)


def session_once(store: Store, folder: Path, n: int, shard: str | None) -> bool:
    """Run one session; say whether its shard is complete."""
    session = open_session(SLUG, store=store, folder=folder, shard=shard)
    for item in session.work(rows(n)):
        with item:
            time.sleep(WORK)
            item.save(numbers=made(item))
    return session.close()["complete"]


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
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _session(drive: LoopbackProcess, folder: Path, n: int, shard: str | None) -> bool:
    return session_once(drive_store(drive), folder, n, shard)


def run_storm(
    root: Path,
    n: int,
    kills: int,
    rate: float,
    seed: int = 0,
    shards: bool = True,
    lag: float = 0.0,
    life: tuple[int, int] = (15, 70),
) -> Outcome:
    """Kill three parallel sessions again and again until `kills` have died, then let them finish; check everything.

    A session lives for a random number of requests to the Drive, `life`, so that a fast machine sees as many kills.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng, outcome, wanted, began = random.Random(seed), Outcome(), expected(root, n), time.monotonic()
    with LoopbackProcess(root / "drive", rate=rate, seed=seed, lag=lag) as drive:
        running: dict[int, tuple[int, float, float]] = {}
        lanes = {worker: root / f"machine-{worker}-0" for worker in range(3)}
        waiting = list(lanes)
        while waiting or running:
            served = drive.served()
            for worker in waiting:
                shard = f"{worker + 1}/3" if shards else None
                work = partial(_session, drive, lanes[worker], n, shard)
                pid = _fork(root / f"words-{worker}.log", work)
                end = served + rng.uniform(*life) if outcome.kills + len(running) < kills else float("inf")
                running[worker] = (pid, end, time.monotonic() + 240.0)
                outcome.sessions += 1
            waiting = []
            time.sleep(0.01)
            for worker, (pid, end, latest) in list(running.items()):
                gone, status = os.waitpid(pid, os.WNOHANG)
                if not gone and served < end and time.monotonic() < latest:
                    continue
                del running[worker]
                if not gone:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    outcome.kills += 1
                    if rng.random() < 0.5:
                        shutil.rmtree(lanes[worker], ignore_errors=True)
                        lanes[worker] = root / f"machine-{worker}-{outcome.kills}"
                        outcome.wiped += 1
                    waiting.append(worker)
                elif os.waitstatus_to_exitcode(status) == 3:  # an upload was given up: another session brings it
                    waiting.append(worker)
                elif status:
                    outcome.faults.append(f"a session ended with {status}: {_tail(root / f'words-{worker}.log')}")
                    outcome.kills = max(outcome.kills, kills)
                if outcome.sessions > 40 * (kills + 3):
                    outcome.faults.append("no end in sight")
                    waiting = []
        time.sleep(lag)
        drive.control(rate=0.0)
        if lag:  # sessions that end at once see the other's copies only after the lag; the next writer does
            drive_store(drive).tidy(f"{SLUG}/")
        seen = drive.control(rate=0.0)
        outcome.requests, outcome.failed = seen["counts"]["all"], Counter(seen["faults"])
        outcome.faults += check(drive, root, wanted, n, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def check(drive: LoopbackProcess, root: Path, wanted: dict[str, str], n: int, outcome: Outcome) -> list[str]:
    """Return what is wrong in the Drive: a file missing, twice, or of another content; a record that is not there."""
    faults: list[str] = []
    store = drive_store(drive)
    before = Counter(name for name, _, _ in drive.control()["files"])
    outcome.stored_twice = sum(count - 1 for name, count in before.items() if name in wanted)
    listed = [stat.name for stat in store.list(f"{SLUG}/items/")]
    if listed != sorted(wanted):
        faults.append(f"{len(listed)} names are listed, {len(wanted)} expected")
    held: dict[str, list[str]] = {}
    for name, md5, _ in drive.control()["files"]:
        held.setdefault(name, []).append(md5)
    for name, md5 in wanted.items():
        if held.get(name) != [md5]:
            faults.append(f"{name} is there as {held.get(name)}, expected once as {md5}")
    faults += [f"{name} was not asked for" for name in held if "/items/" in name and name not in wanted]
    faults += [f"{name} is there {len(md5s)} times" for name, md5s in held.items() if len(md5s) > 1]
    fold = read_state(store, SLUG, root / "check-cache")
    missing = [row["key"] for row in rows(n) if row["key"] not in fold.done]
    if missing:
        faults.append(f"{len(missing)} items have no record, such as {missing[0]}")
    if fold.damaged:
        faults.append(f"damaged segments: {fold.damaged}")
    for name, fault in verify_store(store, [SLUG]).faults.items():
        faults.append(f"verify: {name} {fault}")
    return faults


def _tail(path: Path) -> str:
    return path.read_text("utf-8")[-1500:]
