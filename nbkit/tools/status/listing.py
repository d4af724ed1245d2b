"""A view of a store that answers from one listing.

Status, report and panel ask for hundreds of names, most of which a store does not have. On Drive each question is a
request, so the store is listed once and only files that exist are fetched.
"""

from __future__ import annotations

import bisect
import copy
import errno
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.store.retried import Retried

_SMALL = 1 << 20  # bytes of a file that is kept in memory for the next look
_PARTS = {"ledger", "items", "checkpoints", "figures", "pages"}  # folders of a phase
_FEW = 3  # phases that are listed one by one instead of with the whole store


class Listing:
    """Read-only view of a store, listed once.

    Parameters
    ----------
    store : Store
    prefixes : sequence of str
        Parts of the store that are listed; everything by default. Other names are passed on to the store.

    Attributes
    ----------
    store : Store
        For those who must ask the store itself.
    """

    def __init__(self, store: Store, prefixes: Sequence[str] = ("",)) -> None:
        self.url = store.url
        self.store, self._prefixes = store, tuple(prefixes)
        # shared by all connections, and therefore changed in place only
        self._lock = threading.RLock()
        self._names: list[str] = []
        self._stats: dict[str, Stat] = {}
        self._gone: set[str] = set()
        self._kept: dict[str, tuple[Stat, bytes]] = {}
        self.refresh()

    @property
    def inner(self) -> Store:
        """The store without retries."""
        return getattr(self.store, "inner", self.store)

    def refresh(self) -> None:
        """List the store again. Small files that have not changed since are not fetched again."""
        found = {prefix: list(self.store.list(prefix)) for prefix in self._prefixes}
        with self._lock:
            for prefix, stats in found.items():
                self._take(prefix, stats)

    def _take(self, prefix: str, stats: Sequence[Stat]) -> None:
        for name in [name for name in self._stats if name.startswith(prefix)]:
            del self._stats[name]
        self._stats.update((stat.name, stat) for stat in stats)
        self._names[:] = sorted(self._stats)
        self._gone.difference_update([name for name in self._gone if name.startswith(prefix)])

    def _covers(self, name: str) -> bool:
        return name.startswith(self._prefixes)

    def has_lost(self, prefix: str) -> bool:
        """Return whether a listed file was found to be deleted since; the next `list` then asks the store again."""
        return any(name.startswith(prefix) for name in list(self._gone))

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Return everything whose name starts with the prefix, in the order of names."""
        if not self._covers(prefix):
            return self.store.list(prefix)
        if self.has_lost(prefix):
            stats = list(self.store.list(prefix))
            with self._lock:
                self._take(prefix, stats)
        with self._lock:
            first = bisect.bisect_left(self._names, prefix)
            last = first
            while last < len(self._names) and self._names[last].startswith(prefix):
                last += 1
            return iter([self._stats[name] for name in self._names[first:last]])

    def stat(self, name: str) -> Stat | None:
        """Return what is stored under a name; None where nothing is."""
        return self._stats.get(name) if self._covers(name) else self.store.stat(name)

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        """Fetch a file, as `Store.get` does; the store is not asked for names that its listing does not have."""
        listed = self._stats.get(name)
        if listed is None and self._covers(name):
            raise FileNotFoundError(errno.ENOENT, f"The store {self.url} holds no {name}")
        kept = self._kept.get(name)
        # where a listing shows neither a checksum nor a time of change, an equal size proves nothing
        known = listed is not None and (listed.checksum or listed.changed) and sha256 is None
        if kept and known and (kept[0], kept[0].changed) == (listed, listed.changed):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(kept[1])
            return listed
        try:
            found = self.store.get(name, path, sha256)
        except FileNotFoundError:
            self._gone.add(name)
            raise
        if known and name.endswith(".json") and listed.size <= _SMALL:
            self._kept[name] = listed, path.read_bytes()
        return found

    def connect(self) -> Listing:
        """Return this view with a connection of its own for another thread."""
        other = copy.copy(self)
        other.store = self.store.connect()
        return other


def list_once(store: str | Store | Listing | None, slugs: Sequence[str] | None = None) -> Listing:
    """Return a store with retries, listed once.

    Parameters
    ----------
    store : str, Store, Listing or None
        Folder, URL or open store; None takes NBKIT_STORE, then ``./nbkit-store``. A listing is returned as it is.
    slugs : sequence of str or None
        Phases that will be read, where it is not the whole store.
    """
    if isinstance(store, Listing):
        return store
    opened = open_store(store_address(store)) if store is None or isinstance(store, str) else store
    retried = opened if isinstance(opened, Retried) else Retried(opened)
    return Listing(retried, [f"{slug}/" for slug in slugs] if slugs and len(slugs) <= _FEW else ("",))


def held_phases(store: Listing) -> list[str]:
    """Return the phases that a store holds something of.

    Raises
    ------
    UsageError
        If there are none, as where the address is not that of a store.
    """
    slugs = sorted({name.split("/")[0] for name in (stat.name for stat in store.list()) if _of_nbkit(name)})
    if not slugs:
        raise UsageError(
            f"The store {store.url} does not exist or holds nothing of nbkit. Check the address in --store or "
            "NBKIT_STORE. Nothing was changed."
        )
    return slugs


def refuse_unknown(store: Listing, slugs: Sequence[str]) -> None:
    """Raise UsageError if a store holds nothing of a phase."""
    for slug in slugs:
        if not any(_of_nbkit(stat.name) for stat in store.list(f"{slug}/")):
            raise UsageError(
                f"The store {store.url} does not exist or holds nothing of {slug}. Check the address and the name. "
                "Nothing was changed."
            )


def _of_nbkit(name: str) -> bool:
    parts = name.split("/")
    return len(parts) > 1 and (parts[1] in _PARTS or len(parts) == 2 and parts[1].endswith((".json", ".jsonl")))
