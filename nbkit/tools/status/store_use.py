"""How much space a store takes, beside the limit of the disk or account that it is in.

Only the store's listing is read. Where no limit is known, such as for a bucket, none is shown.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import StoreError
from nbkit.runtime.hosts import detect
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Store
from nbkit.tools.status.listing import Listing


@dataclass(frozen=True)
class StoreUse:
    """Size of a store and the space that there is for it.

    Attributes
    ----------
    files, size : int
        Number of files in the store, and their bytes.
    phases : dict
        Slug to its bytes.
    used, limit : int or None
        Bytes that count against the limit, other users of the same account included; None where unknown.
    limit_is : str
        What the limit applies to.
    note : str
        Why something is unknown.
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
        """Used part of the limit, 0 to 1; None where there is no limit."""
        return self.used / self.limit if self.limit and self.used is not None else None

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def words(self) -> str:
        """Return one line of text."""
        text = f"store: {show_bytes(self.size)} in {self.files:,} files"
        if self.limit and self.used is not None:
            text += f"; {show_bytes(self.used)} of {show_bytes(self.limit)} ({self.share:.0%}) used: {self.limit_is}"
        elif self.limit_is:
            text += f"; {self.limit_is}"
        return text + (f". {self.note}" if self.note else "")


def read_use(store: Store | Listing) -> StoreUse:
    """Read the size and the limit of a store. Faults of the store become a note and are not raised.

    Parameters
    ----------
    store : Store or Listing
    """
    files = size = 0
    phases: dict[str, int] = {}
    note = ""
    try:
        for stat in store.list():
            files, size = files + 1, size + stat.size
            slug = stat.name.partition("/")[0]
            phases[slug] = phases.get(slug, 0) + stat.size
        used, limit, limit_is = _limit(store, size)
    except StoreError as error:
        used, limit, limit_is, note = None, None, "", f"The listing is not complete: {error}"
    return StoreUse(str(store.url), files, size, dict(sorted(phases.items())), used, limit, limit_is, note)


def _limit(store: Store, size: int) -> tuple[int | None, int | None, str]:
    own = getattr(store, "inner", store)
    if hasattr(own, "space"):
        used, total = own.space()
        return (used, total, "the Drive account") if total else (used, None, "the Drive account has no limit")
    if isinstance(own, FolderStore):
        folder = Path(os.path.realpath(own.root))
        while not folder.exists():
            folder = folder.parent
        space, host = size + shutil.disk_usage(folder).free, detect()
        if host.room is not None and host.room < space and folder.is_relative_to(os.path.realpath(host.folder.parent)):
            return size, host.room, f"what {host.name} keeps of a session's files"
        return size, space, "the space for it on this disk"
    return None, None, "its limit is unknown"


def show_bytes(size: float) -> str:
    """Return a number of bytes as text, such as ``1.8 MB``; a kB has 1000 bytes.

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
