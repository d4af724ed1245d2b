"""A day of sessions in simulated time: poison items, slow and failing stores, clocks set anew, hosts that change.

A minute lasts 0.1 s. Two hosts work on one manifest and a third one trains a model beside them, in the
same store, which fails a fifth of its requests and is slow now and then. Sessions last minutes; their hosts kill them,
ask them to end, or give them a limit, and the next one often finds an empty disk and a clock that is years off. Some
items kill their machine each time, some hang, some raise. At the end every item must be done or named.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nbkit.runtime.errors import StoreError
from nbkit.runtime.ledger import outbox as outbox_module
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.status import read_phase
from tests.runtime.children import die, fork, reap
from tests.runtime.items.acknowledged import JUMPS, History, NotedStore, check, made_of, sums

MINUTE = 0.1  # real seconds
POISON = ("kills", "hangs", "raises")
_LIMIT = 1.5  # seconds that an item may take
_SLOW = 0.03  # share of requests that take long
_REFUSED = 4  # exit code of a session whose store failed too often to open it
_LAST = 120  # sessions after the schedule in which everything must end


@dataclass
class Day(History):
    """What a schedule did, what became of its items, and what its checker found."""

    by_poison: int = 0
    refused: int = 0
    set_aside: int = 0
    again: int = 0
    after: int = 0
    steps: int = 0
    running: dict[str, tuple[int, float, float]] = field(default_factory=dict)


class SlowStore(NotedStore):
    """One that also takes long now and then."""

    def _fails(self, moment: str) -> None:
        if moment == "before" and self.random.random() < _SLOW:
            threading.Event().wait(self.random.uniform(0.1, 0.5))
        super()._fails(moment)


def rows_of(n: int, poison: int) -> list[dict[str, object]]:
    """Return the manifest: so many items of each kind of poison, spread over it."""
    bad = dict(zip(random.Random(0).sample(range(n), poison * len(POISON)), POISON * poison, strict=True))
    return [{"key": f"sub-{i % 5}/item-{i:04d}", "number": i, "does": bad.get(i, "works")} for i in range(n)]


def _set_clock(began: float, jump: float) -> None:
    start, utc, sleep = time.time(), time.gmtime, time.sleep
    time.time = lambda: start + (time.monotonic() - began) * 60 / MINUTE + jump
    time.gmtime = lambda seconds=None: utc(time.time() if seconds is None else seconds)
    time.sleep = lambda seconds: sleep(min(seconds, 0.003))  # the waits between tries
    outbox_module._FLUSH_EVERY = 0.1


def items(root: Path, host: Path, rows: list[dict], seed: int, limit: float | None) -> bool:
    """Run one session of the items; return whether everything is done or named."""
    store = SlowStore(root / "store", root / "acknowledged.log", 0.2, seed)
    session = open_session("storm", store=store, folder=host, limit=limit)
    for item in session.work(rows, item_limit=_LIMIT):
        with item:
            if item["does"] == "kills":
                (root / f"poisoned-{os.getpid()}").touch()
                die()
            while item["does"] == "hangs":
                threading.Event().wait(0.05)
            threading.Event().wait(0.02)
            if item["does"] == "raises":
                raise ValueError("as each time")
            item.save(numbers=made_of(int(item["number"])))
            with open(root / "made.log", "ab", buffering=0) as log:
                log.write(item.key.encode() + b"\n")
    return session.close()["complete"]


def training(root: Path, host: Path, steps: int, seed: int, limit: float | None, rate: float = 0.2) -> bool:
    """Run one session of a training; return whether it is complete, and then leave a hash of its weights."""
    import torch

    from tests.runtime.training.training_support import Tiny, TinyData

    torch.set_num_threads(1)
    store = SlowStore(root / "store", root / "training.log", rate, seed)  # old checkpoints are deleted, so not checked
    session = open_session("training", store=store, folder=host, limit=limit, accelerator="cpu")
    module = Tiny(pause=0.003)
    report = session.fit(module, TinyData(), max_steps=steps, save_every=0.2)
    complete = session.close()["complete"]
    if complete:
        state = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
        (root / "weights").write_text(f"{report.step} {hashlib.sha256(state).hexdigest()}")
    return complete


def _start(root: Path, began: float, jump: float, session: Callable[..., bool], *arguments: object) -> int:
    def run() -> None:
        _set_clock(began, jump)
        try:
            os._exit(0 if session(root, *arguments) else 3)
        except StoreError as error:  # six requests in a row failed, or one too near to the limit to be made again
            os._exit(_REFUSED if error.passing else 1)

    return fork(run, root / "words.log")


def run_schedule(root: Path, hours: float, n: int, poison: int, steps: int, seed: int = 1) -> Day:
    """Let two hosts and a training go through a schedule, and end what is left; check after each session."""
    import tests.runtime.training.training_support  # noqa: F401  imported once, before the sessions are forked

    rng, found, seen, rows = random.Random(seed), Day(), Counter[str](), rows_of(n, poison)
    root.mkdir(parents=True)
    began = time.monotonic()
    plans = {host: (items, rows) for host in ("one", "two")} | {"three": (training, steps)}
    following, complete = dict.fromkeys(plans, 0.0), set()

    def begin(host: str, length: float, gentle: bool) -> None:
        session, what = plans[host]
        jump = rng.choice(JUMPS)
        found.jumps += jump != 0
        limit = None if gentle or rng.random() < 0.6 else max(1.0, length)
        pid = _start(root, began, jump, session, root / host, what, rng.randrange(2**31), limit)
        found.sessions += 1
        found.running[host] = pid, time.monotonic() + length + (limit is not None), rng.random()

    def end(host: str) -> None:
        pid, until, how = found.running.pop(host)
        code = None
        if time.monotonic() >= until and how < 0.4:
            os.kill(pid, signal.SIGTERM)
            code = reap(pid, 2.0)
        code = reap(pid, 0.0) if code is None else code
        poisoned = (root / f"poisoned-{pid}").exists()
        found.by_poison += poisoned
        killed = code in (-signal.SIGKILL, -signal.SIGTERM)  # asked to end before it could listen
        found.kills += killed and not poisoned
        found.refused += code == _REFUSED
        if code not in (0, 3, _REFUSED) and not killed:
            found.faults.append(f"a session ended with {code}: {(root / 'words.log').read_text()[-1500:]}")
        if code == 0:
            complete.add(plans[host][0])
        if rng.random() < 0.5 or poisoned:
            shutil.rmtree(root / host, ignore_errors=True)
            found.wipes += 1
        found.faults += check(root, seen)

    def ended(pid: int) -> bool:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    while time.monotonic() < began + hours * 60 * MINUTE and not found.faults:
        now = time.monotonic()
        for host in plans:
            if host in found.running:
                pid, until, _ = found.running[host]
                if ended(pid) or now >= until:
                    end(host)
                    following[host] = now + rng.uniform(0, 5) * MINUTE
            elif now >= following[host] and plans[host][0] not in complete:
                begin(host, (3 + rng.expovariate(1 / 15)) * MINUTE, gentle=False)
        time.sleep(0.005)
    for host in list(found.running):
        end(host)
    for _ in range(_LAST):  # deaths that set an item aside take a session each
        for host in ("two", "three"):
            if plans[host][0] not in complete and not found.faults:
                found.after += 1
                begin(host, 60.0, gentle=True)
                while not ended(found.running[host][0]) and time.monotonic() < found.running[host][1]:
                    time.sleep(0.005)
                end(host)
    return _look(root, rows, steps, complete, found)


def _look(root: Path, rows: list[dict], steps: int, complete: set, found: Day) -> Day:
    """Compare what is in the store with what must be there."""
    if complete != {items, training}:
        found.faults.append(f"not complete: {(root / 'words.log').read_text()[-1500:]}")
    healthy = {str(row["key"]) for row in rows if row["does"] == "works"}
    sums(root, len(healthy), found)
    store = FolderStore(root / "store")
    state, phase = read_state(store, "storm", root / "look"), read_phase(store, "storm", None, root / "look")
    named = {str(row["key"]) for row in rows} - state.done.keys()
    found.faults += [f"{key} is not done" for key in sorted(healthy & named)]
    found.faults += [f"{key} is neither done nor named" for key in sorted(named)
                     if key not in (phase.set_aside or "") and key not in state.errors]  # fmt: skip
    found.set_aside = len(named)
    log = (root / "made.log").read_text().split()
    found.again = len(log) - len(set(log))
    calm = root / "calm"
    calm.mkdir()
    code = reap(_start(calm, time.monotonic(), 0.0, training, calm / "host", steps, 1, None, 0.0), 300.0)
    words = [path.read_text() if path.exists() else "" for path in (root / "weights", calm / "weights")]
    if code != 0 or words[0] != words[1] or not words[0].startswith(f"{steps} "):
        found.faults.append(f"the training ended with {words[0]!r}, a calm one with {words[1]!r} ({code})")
    found.steps = steps
    return found
