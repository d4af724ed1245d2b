"""How much of its place a store takes, beside the limit of that place.

Only the store's own listing is read. Where nobody tells a limit, as of a bucket, none is shown.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import StoreError
from nbkit.runtime.hosts import detect
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat, Store


@dataclass(frozen=True)
class StoreUse:
    """Say what a store holds and how much room there is.

    Attributes
    ----------
    files, size : int
        Of everything in the store; bytes.
    phases : dict
        Slug to its bytes.
    used, limit : int or None
        Bytes that count against the limit, with those of others that share it; None where nobody tells.
    limit_is : str
        What the limit is of, in words.
    note : str
        Why something is not known.
    """

    url: str
    files: int
    size: int
    phases: dict[str, int] = field(default_factory=dict)
    used: int | None = None
    limit: int | None = None
    limit_is: str = ""
    note: str = ""

    @property
    def share(self) -> float | None:
        """Part of the limit that is used, 0 to 1."""
        return self.used / self.limit if self.limit and self.used is not None else None

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def words(self) -> str:
        """Say it in one line."""
        text = f"store: {show_bytes(self.size)} in {self.files:,} files"
        if self.limit and self.used is not None:
            text += f"; {show_bytes(self.used)} of {show_bytes(self.limit)} ({self.share:.0%}) used: {self.limit_is}"
        elif self.limit_is:
            text += f"; {self.limit_is}"
        return text + (f". {self.note}" if self.note else "")


def read_use(store: Store, stats: Iterable[Stat] | None = None) -> StoreUse:
    """Read what a store holds and its limit; what cannot be read is said, never raised.

    Parameters
    ----------
    store : Store
    stats : iterable of Stat or None
        Its listing where that is at hand.
    """
    files = size = 0
    phases: dict[str, int] = {}
    note = ""
    try:
        for stat in store.list() if stats is None else stats:
            files, size = files + 1, size + stat.size
            slug = stat.name.partition("/")[0]
            phases[slug] = phases.get(slug, 0) + stat.size
        used, limit, limit_is = _limit(store, size)
    except StoreError as error:
        used, limit, limit_is, note = None, None, "", f"it could not be read to its end: {error}"
    return StoreUse(str(store.url), files, size, dict(sorted(phases.items())), used, limit, limit_is, note)


def _limit(store: Store, size: int) -> tuple[int | None, int | None, str]:
    own = getattr(store, "inner", store)
    if hasattr(own, "space"):
        used, total = own.space()
        return (used, total, "the Drive account") if total else (used, None, "the Drive account has no limit")
    if isinstance(own, FolderStore):
        place = Path(own.root).resolve()
        while not place.exists():
            place = place.parent
        room, host = size + shutil.disk_usage(place).free, detect()
        if host.room is not None and host.room < room and place.is_relative_to(host.folder.parent.resolve()):
            return size, host.room, f"what {host.name} keeps of a session's files"
        return size, room, "this disk's room for it"
    return None, None, "how much it may hold, nobody tells"


def show_bytes(size: float) -> str:
    """Return a number of bytes in words, such as ``1.8 MB``; a kB has 1000.

    Examples
    --------
    >>> show_bytes(0), show_bytes(1842201), show_bytes(15e9)
    ('0 bytes', '1.8 MB', '15 GB')
    """
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5 or unit == "GB":
            break
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
