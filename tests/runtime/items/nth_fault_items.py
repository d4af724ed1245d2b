"""An item session over surroundings that fail at their n-th operation, and what must hold after it."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.runtime.errors import NbkitError, StoreError
from nbkit.runtime.ledger import outbox
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import open_session
from nbkit.runtime.store import retried
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.items.storm import check_store
from tests.runtime.store.nth_fault import Strike, StrikingStore, striking_disk, striking_memory, temporary_files_in

SLUG = "storm"  # the phase that `check_store` looks at
ROWS = [{"key": f"sub-{i % 2}/item-{i}", "seed": str(i)} for i in range(4)]
STORE = {
    "passing": lambda what: StoreError(f"{what}: 503 on purpose", passing=True),
    "permanent": lambda what: StoreError(f"{what}: forbidden on purpose"),
}
_WAITS = {"_TICK": 0.02, "_AGAIN_EVERY": 0.05, "_FLUSH_EVERY": 0.03, "_REFRESH_EVERY": 0.05, "_PATIENCE": 0.2}


@contextlib.contextmanager
def short_waits() -> Iterator[None]:
    """Shorten the waits of uploads and retries, which a sweep meets hundreds of times."""
    before = {name: getattr(outbox, name) for name in _WAITS}
    defaults = retried.Retried.__init__.__defaults__
    for name, seconds in _WAITS.items():
        setattr(outbox, name, seconds)
    retried.Retried.__init__.__defaults__ = (4, 0.001, None)
    try:
        yield
    finally:
        for name, seconds in before.items():
            setattr(outbox, name, seconds)
        retried.Retried.__init__.__defaults__ = defaults


@dataclass
class Outcome:
    """What one faulty session and the healthy one after it did."""

    n: int
    struck: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    error: str = ""
    operations: int = 0
    said: str = ""


def session_once(store: Any, folder: Path, done: Counter[str]) -> dict[str, Any]:
    """Run one session of the loop, and leave it as a process does that ends by an error."""
    session = open_session(SLUG, store, folder=folder)
    try:
        for item in session.work(ROWS):
            with item:
                done[item.key] += 1
                item.save(x=np.full(64, int(item["seed"])), y=np.arange(3))
        session.result("mean", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
        return session.close()
    except BaseException:
        session._leave()
        raise


@contextlib.contextmanager
def surroundings(kind: str, root: Path, n: int | None, lasting: bool) -> Iterator[tuple[Any, Strike]]:
    """Return a store and what counts: ``store HOW KIND``, ``work`` or ``store-disk ERRNO``, ``memory [FUNCTION]``."""
    first, *rest = kind.split()
    plain = FolderStore(root / "store")
    if first == "store":
        how, fault = rest
        strike = Strike(n, STORE[fault], lasting)
        yield StrikingStore(root / "store", strike, how), strike
    elif first == "memory":
        with striking_memory(n, function=" ".join(rest)) as strike:
            yield plain, strike
    else:
        folders = [root / "work", root / "tmp"] if first == "work" else [root / "store"]
        with striking_disk(folders, getattr(errno, rest[0]), n, lasting) as strike:
            yield plain, strike


def faulty_session(root: Path, kind: str, n: int | None, lasting: bool, longest: float = 10.0) -> Outcome:
    """Run a session with a fault at the n-th operation, a healthy one, and give what is wrong."""
    found, said, executed = Outcome(n or 0), io.StringIO(), Counter()
    began = time.monotonic()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), temporary_files_in(root / "tmp"):
        with surroundings(kind, root, n, lasting) as (store, strike):
            try:
                session_once(store, root / "work", executed)
            except NbkitError as error:
                found.error = f"{type(error).__name__}: {error}"
            except MemoryError as error:
                found.error = repr(error)
                if not kind.startswith("memory"):
                    found.faults.append(f"raised {error!r}")
            except BaseException as error:
                found.faults.append(f"raised {type(error).__name__}: {error}")
        found.operations, found.struck, found.said = strike.count, strike.struck, said.getvalue()
        if time.monotonic() - began > longest:
            found.faults.append(f"took {time.monotonic() - began:.1f} s")
        if trace := traceback_in(found.said):
            found.faults.append(f"a traceback: {trace}")
        found.faults += check_store(root, set())
        acknowledged = set(read_state(FolderStore(root / "store"), SLUG, root / "check-cache").done)
        if n is not None and n % 2:
            shutil.rmtree(root / "work", ignore_errors=True)
        again: Counter[str] = Counter()
        try:
            summary = session_once(FolderStore(root / "store"), root / "work", again)
        except BaseException as error:
            found.faults.append(f"the next session raised {type(error).__name__}: {error}")
            return found
    if not (summary["complete"] and summary["done"] == len(ROWS) and summary["exit"] == 0):
        found.faults.append(f"the next session ended with {summary}")
    if twice := acknowledged & set(again):
        found.faults.append(f"done again though the store had it: {sorted(twice)}")
    found.faults += check_store(root, set())
    state = read_state(FolderStore(root / "store"), SLUG, root / "check-cache")
    if state.failures and not kind.startswith("memory"):  # an item that needs more memory than there is has failed
        found.faults.append(f"a fault of the surroundings counts as the items': {state.failures}")
    if state.damaged:
        found.faults.append(f"damaged: {state.damaged}")
    for row in ROWS:
        path = root / "store" / SLUG / "items" / f"{row['key']}.npz"
        try:
            with np.load(path) as arrays:
                if not (arrays["x"] == int(row["seed"])).all():
                    found.faults.append(f"{path.name} holds other numbers")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            found.faults.append(f"{path.name} cannot be read: {error}")
    freed = not any(what.startswith(("unlink", "remove")) for what in found.struck)
    if freed and (strays := [str(p) for p in root.rglob("*.part")]):
        found.faults.append(f"temporary files are left: {strays}")
    return found


# what Python prints, by itself, where memory ends while it throws a generator away half-way
_THROWN_AWAY = re.compile(
    r"Exception ignored in: <generator object [^\n]*\nTraceback [^\n]*\n(?:  [^\n]*\n)+MemoryError: ?\n?"
)


def traceback_in(said: str) -> str:
    """Return the traceback in a session's output, without those that Python prints of a generator; empty for none."""
    rest = _THROWN_AWAY.sub("", said)
    return rest[rest.index("Traceback") :][-1500:] if "Traceback" in rest else ""


def sweep(root: Path, kind: str, lasting: bool, chosen: Any = None) -> list[Outcome]:
    """Run a faulty session for n = 1, 2, ... until a session has no n-th operation; `chosen(n)` may leave some out."""
    outcomes, n = [], 0
    while True:
        n += 1
        if chosen is not None and not chosen(n):
            if n > 4000:
                return outcomes
            continue
        folder = root / f"{n}"
        outcome = faulty_session(folder, kind, n, lasting)
        shutil.rmtree(folder, ignore_errors=True)
        if not outcome.struck:
            return outcomes
        outcomes.append(outcome)
