"""A storm of kills, wiped machines, clock jumps and failing requests, and a checker of what was acknowledged.

The store writes down what it has acknowledged: each output and each segment whose `put` returned. After every kill all
of that must be there: the outputs with their content, and the records in what any session would read. Two hosts work on
one manifest. A request that fails may have had its effect, as a lost answer does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import StoreError
from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import Segment, read_segment, read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.items.storm import _die_at, _reap

DAY = 86400.0
JUMPS = (0.0, 0.0, 3600.0, -3600.0, 3 * DAY, -5 * DAY, 400 * DAY, -400 * DAY)


@dataclass
class History:
    """What a storm did and what its checker found."""

    sessions: int = 0
    kills: int = 0
    wipes: int = 0
    jumps: int = 0
    requests: int = 0
    failed: int = 0
    acknowledged: int = 0
    items: int = 0
    faults: list[str] = field(default_factory=list)


class NotedStore(FolderStore):
    """A folder that fails a share of its requests, before or after their effect, and notes what it acknowledges."""

    def __init__(self, root: Path, log: Path, rate: float, seed: int) -> None:
        super().__init__(root)
        self.log, self.rate, self.random = log, rate, random.Random(seed)

    def _note(self, **fields: object) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(json.dumps(fields).encode() + b"\n")

    def _fails(self, moment: str) -> None:
        failed = self.random.random() < self.rate
        if moment == "before" or failed:
            self._note(request=moment == "before", failed=failed)
        if failed:
            raise StoreError(f"503 {moment} the work was done", passing=True)

    def put(self, path, name):
        self._fails("before")
        stat = super().put(path, name)
        self._fails("after")
        segment = Segment.parse(name)
        if segment is None:
            self._note(name=name, sha256=stat.checksum.removeprefix("sha256:"))
        else:
            records = [record for _, record in read_segment(segment, Path(path).read_bytes())]
            self._note(keys=[record["k"] for record in records if record["e"] == "done"])
        return stat

    def get(self, name, path, sha256=None):
        self._fails("before")
        return super().get(name, path, sha256)

    def list(self, prefix=""):
        self._fails("before")
        return super().list(prefix)

    def delete(self, name):
        self._fails("before")
        super().delete(name)
        self._fails("after")

    def connect(self):
        return self


def made_of(number: int) -> np.ndarray:
    """Return what an item's output holds."""
    return np.random.default_rng(number).standard_normal(64)


def _session(root: Path, host: Path, n: int, rate: float, seed: int, jump: float, calm: bool) -> bool:
    if jump:
        clock, utc = time.time, time.gmtime
        time.time = lambda: clock() + jump
        time.gmtime = lambda seconds=None: utc(time.time() if seconds is None else seconds)
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, 0.003))  # the waits between tries
    outbox_module._FLUSH_EVERY = 0.05
    store = NotedStore(root / "store", root / "acknowledged.log", rate, seed)
    session = open_session("storm", store=store, folder=host)
    rows = [{"key": f"sub-{i % 5}/item-{i:04d}", "number": i} for i in range(n)]
    for item in session.work(rows, retry_failed=calm):
        with item:
            sleep(0.001)
            item.save(numbers=made_of(int(item["number"])))
    return session.close()["complete"]


def _fork(root: Path, touch: int | None, *arguments: object) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(root / "words.log", "a", encoding="utf-8", buffering=1)
        if touch is not None:
            _die_at(touch)
        code = 0 if _session(root, *arguments) else 3
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
    finally:
        os._exit(code)


def run_history(root: Path, n: int, kills: int, rate: float = 0.2, seed: int = 1) -> History:
    """Kill sessions of two hosts, then let one finish in peace, and check after each what was acknowledged."""
    rng, found, seen = random.Random(seed), History(), Counter[str]()
    root.mkdir(parents=True)
    while found.kills < kills and not found.faults:
        children = []
        for host in ("one", "two"):
            jump, touch = rng.choice(JUMPS), rng.choice([None, rng.randrange(5, 250)])
            arguments = (root / host, n, rate, rng.randrange(2**31), jump, False)
            children.append((_fork(root, touch, *arguments), touch, host))
            found.jumps += jump != 0
        for pid, touch, host in children:
            found.sessions += 1
            if _reap(pid, rng.uniform(0.02, 0.4) if touch is None else 5.0) is None:
                found.kills += 1
            if rng.random() < 0.4:
                shutil.rmtree(root / host, ignore_errors=True)
                found.wipes += 1
        found.faults += check(root, seen)
    end = _reap(_fork(root, None, root / "last", n, 0.0, 1, 0.0, True), 120.0)
    if end != 0:
        found.faults.append(f"the last session ended with {end}: {(root / 'words.log').read_text()[-1500:]}")
    found.faults += check(root, seen)
    return sums(root, n, found)


def check(root: Path, seen: Counter[str]) -> list[str]:
    """Return what was acknowledged and is not there now; what was found once may not vanish either."""
    store, faults = FolderStore(root / "store"), []
    notes = _notes(root)
    state = read_state(store, "storm", root / "reader")
    for note in notes:
        path = store.path(note["name"]) if "name" in note else None
        if path is not None and (not path.is_file() or sha256_of(path) != note["sha256"]):
            faults.append(f"{note['name']} was acknowledged and is not there")
        faults += [f"the record of {key} was acknowledged and is gone" for key in note.get("keys", ())
                   if key not in state.done]  # fmt: skip
    faults += [f"{key} was done and is not any more" for key in seen if key not in state.done]
    faults += [f"{name}: {words}" for name, words in state.damaged.items()]
    seen.update(state.done.keys())
    return faults


def _notes(root: Path) -> list[dict]:
    log = root / "acknowledged.log"
    whole = log.read_bytes().rpartition(b"\n")[0].splitlines() if log.is_file() else []
    return [json.loads(line) for line in whole]


def sums(root: Path, n: int, found: History) -> History:
    store, notes = FolderStore(root / "store"), _notes(root)
    found.requests = sum(note.get("request", False) for note in notes)
    found.failed = sum(note.get("failed", False) for note in notes)
    found.acknowledged = sum("name" in note or "keys" in note for note in notes)
    outputs = [stat.name for stat in store.list("storm/items/")]
    state = read_state(store, "storm", root / "last reader")
    found.items = len(state.done)
    if len(outputs) != n or found.items != n:
        found.faults.append(f"{found.items} items done and {len(outputs)} outputs, of {n}")
    for name in outputs:
        with np.load(store.path(name)) as file:
            if not np.array_equal(file["numbers"], made_of(int(name.removesuffix(".npz")[-4:]))):
                found.faults.append(f"{name} holds something else")
    return found
