"""Store that reads from two stores and writes to one, so that a trial sees what exists and changes none of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nbkit.runtime.store.protocol import Stat, Store


class LayeredStore:
    """Write to the upper store; read from it, then from the lower one.

    Parameters
    ----------
    upper, lower : Store
        Nothing is ever written to the lower store or deleted from it.
    hidden : str
        Prefix of names that are not read from the lower store, such as those of the phase that is tried.
    """

    def __init__(self, upper: Store, lower: Store, hidden: str) -> None:
        self.upper, self.lower, self.hidden = upper, lower, hidden
        self.url = upper.url

    def put(self, path: Path, name: str) -> Stat:
        return self.upper.put(path, name)

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        if self.upper.stat(name) is None and not name.startswith(self.hidden):
            return self.lower.get(name, path, sha256)
        return self.upper.get(name, path, sha256)

    def stat(self, name: str) -> Stat | None:
        found = self.upper.stat(name)
        return self.lower.stat(name) if found is None and not name.startswith(self.hidden) else found

    def list(self, prefix: str = "") -> Iterator[Stat]:
        found = {stat.name: stat for stat in self.lower.list(prefix) if not stat.name.startswith(self.hidden)}
        found |= {stat.name: stat for stat in self.upper.list(prefix)}
        yield from (found[name] for name in sorted(found))

    def delete(self, name: str) -> None:
        self.upper.delete(name)

    def connect(self) -> LayeredStore:
        """Return another connection to both stores, for another thread."""
        return LayeredStore(self.upper.connect(), self.lower.connect(), self.hidden)
