"""Parallel sessions on one data set of the Hub, killed at random, while a share of all requests fails.

The Hub is a process of its own. The parent has everything imported and forks a child a session. A minute is scaled to
`every` seconds, so that a session lives for several commits.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nbkit.ground.files import sha256_of
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.store import HubStore
from nbkit.tools.status.verify import verify_store
from tests.runtime.store.drive.drive_storm import SLUG, _fork, _tail, rows, session_once
from tests.runtime.store.hub.hub_loopback import LoopbackProcess
from tests.runtime.store.hub.hub_state import TOKEN


@dataclass
class Outcome:
    """Say what a storm did, and what is wrong after it."""

    kills: int = 0
    wiped: int = 0
    sessions: int = 0
    seconds: float = 0.0
    requests: int = 0
    commits: int = 0
    files: int = 0
    closest: float = float("inf")  # seconds between two commits of a session
    failed: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def failing(self) -> float:
        """Share of all requests that failed."""
        return self.failed.total() / max(self.requests, 1)


def hub_store(hub: LoopbackProcess, every: float) -> HubStore:
    return HubStore("someone/nbkit", HubCredential(TOKEN, hub.endpoint, "the test"), every, first_wait=0.05)


def expected(root: Path, n: int) -> dict[str, str]:
    """Return name and SHA-256 of every file that must be there in the end: what a calm session puts into a folder."""
    pid = _fork(root / "calm.log", lambda: session_once(FolderStore(root / "calm"), root / "calm-machine", n, None))
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise AssertionError(_tail(root / "calm.log"))
    items = root / "calm" / SLUG / "items"
    return {f"{SLUG}/items/{p.relative_to(items).as_posix()}": sha256_of(p) for p in items.rglob("*.npz")}


def _session(hub: LoopbackProcess, every: float, folder: Path, n: int, shard: str) -> bool:
    return session_once(hub_store(hub, every), folder, n, shard)


def run_storm(
    root: Path, n: int, kills: int, rate: float, every: float, seed: int = 0, life: tuple[float, float] = (1.0, 4.0)
) -> Outcome:
    """Kill three parallel sessions until `kills` have died, then let them finish; check everything.

    A session lives for a random number of commit intervals, `life`; after about half of the kills the machine is wiped.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng, outcome, wanted, began = random.Random(seed), Outcome(), expected(root, n), time.monotonic()
    with LoopbackProcess(rate=rate, seed=seed) as hub:
        running: dict[int, tuple[int, float]] = {}
        lanes = {worker: root / f"machine-{worker}-0" for worker in range(3)}
        waiting = list(lanes)
        while waiting or running:
            for worker in waiting:
                work = partial(_session, hub, every, lanes[worker], n, f"{worker + 1}/3")
                pid = _fork(root / f"words-{worker}.log", work)
                lives = every * rng.uniform(*life) if outcome.kills + len(running) < kills else 600.0
                running[worker] = pid, time.monotonic() + lives
                outcome.sessions += 1
            waiting = []
            time.sleep(0.02)
            for worker, (pid, end) in list(running.items()):
                gone, status = os.waitpid(pid, os.WNOHANG)
                if not gone and time.monotonic() < end:
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
                if outcome.sessions > 10 * (kills + 3):
                    outcome.faults.append("no end in sight")
                    waiting = []
        seen = hub.control(rate=0.0)
        outcome.requests, outcome.failed = seen["counts"]["all"], Counter(seen["faults"])
        outcome.faults += check(hub, root, wanted, n, every, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def check(
    hub: LoopbackProcess, root: Path, wanted: dict[str, str], n: int, every: float, outcome: Outcome
) -> list[str]:
    """Return what is wrong: a file missing or of another content, a record that is not there, commits too close."""
    faults: list[str] = []
    store, seen = hub_store(hub, every), hub.control()
    held = {name: sha256 for name, sha256 in seen["files"].items() if "/items/" in name}
    faults += [f"{name} is {held.get(name)}, expected {sha}" for name, sha in wanted.items() if held.get(name) != sha]
    faults += [f"{name} was not asked for" for name in held if name not in wanted]
    outcome.files, outcome.commits = len(held), len(seen["commits"])
    last: dict[str, float] = {}
    for commit in seen["commits"]:
        writer = commit["message"].split()[1]
        outcome.closest = min(outcome.closest, commit["at"] - last.get(writer, float("-inf")))
        last[writer] = commit["at"]
    if outcome.closest < every:
        faults.append(f"two commits of a session within {outcome.closest:.3f} s, allowed is one in {every} s")
    fold = read_state(store, SLUG, root / "check-cache")
    if missing := [row["key"] for row in rows(n) if row["key"] not in fold.done]:
        faults.append(f"{len(missing)} items have no record, such as {missing[0]}")
    if fold.damaged:
        faults.append(f"damaged segments: {fold.damaged}")
    return faults + [f"verify: {name} {fault}" for name, fault in verify_store(store, [SLUG]).faults.items()]
