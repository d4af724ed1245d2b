"""A view of a store that answers from one listing.

Status, report and panel ask for hundreds of names, most of which a store does not have. On Drive each question is a
request, so the store is listed once and only files that exist are fetched.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbkit.ground.files import own_files, write_atomically
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.store.retried import Retried

_SMALL = 1 << 20  # bytes of a file that is kept in memory for the next look
_PARTS = {"pushes", "ledger", "items", "checkpoints", "figures", "tables", "pages"}  # folders of a phase
_CACHED = 8 << 20  # bytes of a file that is kept on this machine's disk
_ROOMS = ("ledger", "checkpoints", "items", "results.json")  # of a phase
_LINK = "is a symbolic link that leads out of the store; it is not followed"
_KEPT_FOR = 30 * 86400.0  # seconds without a look
_KEPT_NAME = re.compile(r"\.?[0-9a-f]{32}-\d+(\.\d+\.part)?")  # MD5 and bytes; the rest for one that a kill left
_FEW = 3  # phases that are listed one by one instead of with the whole store


class Listing:
    """Read-only view of a store, listed once.

    Parameters
    ----------
    store : Store
    prefixes : sequence of str
        Parts of the store that are listed; everything by default. Other names are passed on to the store.
    cache : Path or None
        Folder that keeps small files by their checksum for the next look, of another process, too.

    Attributes
    ----------
    store : Store
        For those who must ask the store itself.
    """

    def __init__(self, store: Store, prefixes: Sequence[str] = ("",), cache: Path | None = None) -> None:
        self.url, self._cache = store.url, cache
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
        local = None if listed is None or sha256 is not None else self._cached(listed)
        if listed is not None and local is not None and _take_checked(local, path, listed):
            return listed
        try:
            found = self.store.get(name, path, sha256)
        except FileNotFoundError:
            self._gone.add(name)
            raise
        if local is not None:
            with contextlib.suppress(OSError):  # a full disk makes the next look slower, nothing else
                write_atomically(local, lambda file: file.write(path.read_bytes()))
        if known and name.endswith(".json") and listed.size <= _SMALL:
            self._kept[name] = listed, path.read_bytes()
        return found

    def _cached(self, stat: Stat) -> Path | None:
        """Return where a file is kept; None for large ones and those without a checksum, which alone proves it."""
        if self._cache is None or not (stat.checksum or "").startswith("md5:") or stat.size > _CACHED:
            return None
        return self._cache / f"{(stat.checksum or '').removeprefix('md5:')}-{stat.size}"

    def in_place(self, name: str) -> Path | None:
        """Return the path of a file that can be read without a copy of it."""
        return getattr(self.store, "in_place", lambda name: None)(name)

    def links_out(self, slug: str) -> dict[str, str]:
        """Return what of a phase is a link that leads out of a store, which no listing follows, with words for it."""
        look = getattr(self.inner, "links_out", None)
        links = [link for link in look() if link == slug] + look(slug) if look else []
        return dict.fromkeys(links, _LINK)

    def linked_phases(self) -> list[str]:
        """Return the links in a store that lead to the folder of a phase elsewhere."""
        look = getattr(self.inner, "links_out", None)
        return (
            [link for link in look() if any(Path(self.inner.url, link, room).exists() for room in _ROOMS)]
            if look
            else []
        )

    def connect(self) -> Listing:
        """Return this view with a connection of its own for another thread."""
        other = copy.copy(self)
        other.store = self.store.connect()
        return other


def _take_checked(local: Path, path: Path, stat: Stat) -> bool:
    """Copy a kept file if its content is what the store lists, and return whether it was."""
    try:
        data = local.read_bytes()
        if f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}" != stat.checksum:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(local)
    except OSError:
        return False
    return True


def user_cache() -> Path | None:
    """Return the user's folder for files of remote stores; what nobody has looked at for a month is removed from it.

    None where there can be no folder, as in a home that is read-only.
    """
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("nbkit"), "store")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = own_files(folder, _KEPT_NAME)
    except OSError:
        return None
    for path in kept:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_FOR:
                path.unlink()
    return folder


def list_once(
    store: str | Store | Listing | None, slugs: Sequence[str] | None = None, cache: Path | None = None
) -> Listing:
    """Return a store with retries, listed once.

    Parameters
    ----------
    store : str, Store, Listing or None
        Folder, URL or open store; None takes NBKIT_STORE, then ``./nbkit-store``. A listing is returned as it is.
    slugs : sequence of str or None
        Phases that will be read, where it is not the whole store.
    cache : Path or None
        Folder that keeps small files for the next look.
    """
    if isinstance(store, Listing):
        return store
    opened = open_store(store_address(store)) if store is None or isinstance(store, str) else store
    retried = opened if isinstance(opened, Retried) else Retried(opened)
    return Listing(retried, [f"{slug}/" for slug in slugs] if slugs and len(slugs) <= _FEW else ("",), cache)


def held_phases(store: Listing) -> list[str]:
    """Return the phases that a store holds something of.

    Raises
    ------
    UsageError
        If there are none, as where the address is not that of a store.
    """
    slugs = sorted({name.split("/")[0] for name in (stat.name for stat in store.list()) if _of_nbkit(name)})
    if not slugs and (links := store.linked_phases()):
        raise UsageError(
            f"The store {store.url} holds nothing of nbkit itself. {', '.join(links)} in it {_LINK}. Make the folder "
            "around its target the store, or copy what it leads to into this one. Nothing was changed."
        )
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
