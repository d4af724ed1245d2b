"""A storm of kills over the item loop, and the checks that must hold after each.

The parent imports everything once and forks a child a session, so that a session costs milliseconds and hundreds of
real SIGKILLs fit into a test. A child dies at a random moment, or at its n-th touch of the file system.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.ground.files import sha256_of
from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import Segment, read_segment, read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore

_TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.link"}


@dataclass
class Storm:
    """Say what a storm did."""

    kills: int = 0
    sessions: int = 0
    executions: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def redone(self) -> int:
        return sum(n - 1 for n in self.executions.values())


def rows(n: int) -> list[dict[str, str]]:
    return [{"key": f"sub-{i % 7:03d}/item-{i:05d}", "seed": str(i)} for i in range(n)]


def session_once(root: Path, n: int, work_s: float, folder: Path) -> bool:
    """Run one session of the loop; say whether the phase is complete."""
    session = open_session("storm", store=root / "store", folder=folder)
    for item in session.work(rows(n)):
        with item:
            with open(root / "executions.log", "ab", buffering=0) as log:
                log.write(item.key.encode() + b"\n")
            numbers = np.random.default_rng(int(item["seed"])).standard_normal(256)
            time.sleep(work_s)
            item.save(numbers=numbers, square=numbers**2)
    return session.close()["complete"]


def fork_session(root: Path, n: int, work_s: float, folder: Path, touch: int | None = None) -> int:
    """Start a session in a forked child; it kills itself at its `touch`-th touch of the file system if given."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(root / "words.log", "a", encoding="utf-8", buffering=1)
        outbox_module._FLUSH_EVERY = 0.05  # many segments, merges and deletions in a short storm
        if touch is not None:
            _die_at(touch)
        code = 0 if session_once(root, n, work_s, folder) else 3
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _die_at(touch: int) -> None:
    """Kill this process at its n-th file system event: before an open or rename, before or after an fsync."""
    count = [0]

    def step() -> None:
        count[0] += 1
        if count[0] >= touch:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple) -> None:
        if event in _TOUCHES and not (event == "open" and isinstance(args[1], str) and "w" not in args[1]):
            step()

    sync, replace = os.fsync, os.replace

    def fsync_and_die(handle: int) -> None:
        sync(handle)
        step()

    def replace_and_die(*args: object) -> None:
        replace(*args)
        step()

    os.fsync, os.replace = fsync_and_die, replace_and_die
    sys.addaudithook(hook)


def run_storm(root: Path, n: int, kills: int, seed: int, work_s: float = 0.002, mode: str = "mixed") -> Storm:
    """Kill sessions until `kills` have died and the phase is complete, checking the store after each kill.

    Parameters
    ----------
    mode : str
        ``random`` moments, ``touch`` (at a file system event), or ``mixed``.
    """
    rng, storm = random.Random(seed), Storm()
    root.mkdir(parents=True, exist_ok=True)
    checked: set[str] = set()
    while True:
        by_touch = mode == "touch" or (mode == "mixed" and rng.random() < 0.5)
        deadly = storm.kills < kills
        touch = rng.randrange(1, 160) if by_touch and deadly else None
        pid = fork_session(root, n, work_s, root / "work", touch)
        storm.sessions += 1
        code = _reap(pid, rng.uniform(0.005, 0.15) if deadly and not by_touch else 120.0)
        if code is None:
            storm.kills += 1
        elif code not in (0, 3):
            words = (root / "words.log").read_text("utf-8")[-2000:]
            storm.faults.append(f"session {storm.sessions} ended with {code}: {words}")
            return storm
        storm.faults += check_store(root, checked)
        if code == 0 or storm.faults:
            break
    log = root / "executions.log"
    storm.executions = Counter(log.read_text().split()) if log.exists() else Counter()
    return storm


def _reap(pid: int, seconds: float) -> int | None:
    """Wait for a child; SIGKILL it when the time is up. Give its exit code, None if it was killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def check_store(root: Path, checked: set[str]) -> list[str]:
    """Return what is wrong in the store: an unreadable segment, or an item recorded done without its output."""
    store, faults = FolderStore(root / "store"), []
    for stat in store.list("storm/ledger/"):
        segment = Segment.parse(stat.name)
        if segment is None:
            faults.append(f"{stat.name} is no segment")
            continue
        found = sum(1 for _ in read_segment(segment, store.path(stat.name).read_bytes()))
        if found != segment.last - segment.first + 1:
            faults.append(f"{stat.name}: {found} records can be read")
    fold = read_state(store, "storm", root / "check-cache")
    for key, outputs in fold.done.items():
        if key in checked:
            continue
        checked.add(key)
        for name, size, sha256 in outputs:
            path = store.path(name)
            if not path.is_file() or path.stat().st_size != size or sha256_of(path) != sha256:
                faults.append(f"{key} is recorded done, its output {name} is not what was recorded")
        if not outputs:
            faults.append(f"{key} is recorded done without an output")
    return faults


def tree_hash(folder: Path) -> str:
    """Return one hash of all names and contents below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
