"""Stores that fail on purpose: errors on every verb, torn uploads, slow answers, listings that lag."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat

VERBS = ("put", "get", "stat", "list", "delete")
Fault = Callable[[str, str, int], Exception | None]


def passing(verb: str, name: str, call: int) -> StoreError:
    return StoreError(f"{verb} {name}: 503 on purpose", passing=True)


def permanent(verb: str, name: str, call: int) -> StoreError:
    return StoreError(f"{verb} {name}: forbidden on purpose", passing=False)


def on(verbs: str, fault: Fault, calls: Callable[[int], bool] = lambda call: True) -> Fault:
    """Return a fault that strikes only these verbs, and only the calls (counted from 1 a verb) that are chosen."""
    return lambda verb, name, call: fault(verb, name, call) if verb in verbs.split() and calls(call) else None


class FaultyStore:
    """Pass verbs on to another store after asking `fault(verb, name, call)` for an error to raise.

    Parameters
    ----------
    fault : callable or None
    slow : float
        Seconds that every verb takes longer.
    torn : bool
        Whether a failing put first leaves half of the file in the store, under a name that is none of ours.
    """

    def __init__(self, inner: FolderStore, fault: Fault | None = None, slow: float = 0.0, torn: bool = False) -> None:
        self.inner, self.url, self.fault, self.slow, self.torn = inner, inner.url, fault, slow, torn
        self.calls: Counter[str] = Counter()
        self.names: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def _ask(self, verb: str, name: str) -> None:
        with self._lock:
            self.calls[verb] += 1
            call = self.calls[verb]
            self.names.append((verb, name))
        if self.slow:
            time.sleep(self.slow)
        error = self.fault(verb, name, call) if self.fault else None
        if error is not None:
            raise error

    def put(self, path: Path, name: str) -> Stat:
        try:
            self._ask("put", name)
        except StoreError:
            if self.torn:
                half = self.inner.root / ".incoming" / f"torn.{os.urandom(4).hex()}.part"
                half.parent.mkdir(parents=True, exist_ok=True)
                half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise
        return self.inner.put(path, name)

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        self._ask("get", name)
        return self.inner.get(name, path, sha256)

    def stat(self, name: str) -> Stat | None:
        self._ask("stat", name)
        return self.inner.stat(name)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        self._ask("list", prefix)
        return self.inner.list(prefix)

    def delete(self, name: str) -> None:
        self._ask("delete", name)
        self.inner.delete(name)

    def connect(self) -> FaultyStore:
        return self


class LaggingStore(FolderStore):
    """Keep files in a folder whose listings show the state of some seconds ago, in every process that uses it."""

    def __init__(self, root: Path, lag: float) -> None:
        super().__init__(root)
        self.lag = lag

    def delete(self, name: str) -> None:
        stat = self.stat(name)
        if stat is not None:
            self.root.mkdir(exist_ok=True)
            with open(self.root / ".deleted", "a") as log:
                log.write(json.dumps([time.time(), name, stat.size]) + "\n")
        super().delete(name)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        then = time.time() - self.lag
        found = {s.name: s for s in super().list(prefix) if self._born(s.name) <= then}
        log = self.root / ".deleted"
        for line in log.read_text().splitlines() if log.exists() else ():
            when, name, size = json.loads(line)
            if when > then and name.startswith(prefix):
                found[name] = Stat(name, size)
        yield from sorted(found.values(), key=lambda s: s.name)

    def _born(self, name: str) -> float:
        try:
            return self.path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0
