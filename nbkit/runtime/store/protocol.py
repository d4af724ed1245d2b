"""What a store is: five verbs on relative names.

A store is where things survive. `put` and `get` return only when the content has been verified; `put` leaves the old
content or the new, never a part; every verb may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Stat:
    """Say what a store holds under a name.

    Attributes
    ----------
    name : str
        Relative name in the store.
    size : int
        Bytes.
    checksum : str or None
        ``"sha256:<hex>"`` or ``"md5:<hex>"``; None where the store cannot tell without reading the content.
    changed : str or None
        A time of change or version in a listing, which differs where the content does; None where none is known.
    """

    name: str
    size: int
    checksum: str | None = None
    changed: str | None = field(default=None, compare=False)


@runtime_checkable
class Store(Protocol):
    """Keep files under relative names where a lost machine cannot take them along."""

    url: str

    def put(self, path: Path, name: str) -> Stat:
        """Store a local file under a name, whole and verified; storing the same again changes nothing."""
        ...

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        """Fetch a file to a local path, verified and whole; FileNotFoundError where the store has none."""
        ...

    def stat(self, name: str) -> Stat | None:
        """Say what is stored under a name; None where nothing is."""
        ...

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Return everything whose name starts with the prefix, in the order of names."""
        ...

    def delete(self, name: str) -> None:
        """Remove a name; removing what is not there is no error."""
        ...

    def connect(self) -> Store:
        """Return a connection of its own for another thread."""
        ...
