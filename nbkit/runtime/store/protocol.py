"""The interface of a store: five methods on relative names.

A store keeps files when the machine is lost. `put` and `get` return only when the content has been verified. After a
failed `put`, the store has the old content or the new, never a part. Every call may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Stat:
    """What a store holds under a name.

    Attributes
    ----------
    name : str
        Relative name in the store.
    size : int
        Bytes.
    checksum : str or None
        ``"sha256:<hex>"`` or ``"md5:<hex>"``; None if the store would have to read the content.
    changed : str or None
        A time of change or version in a listing, which differs where the content does; None where none is known.
    """

    name: str
    size: int
    checksum: str | None = None
    changed: str | None = field(default=None, compare=False)


@runtime_checkable
class Store(Protocol):
    """Files under relative names, kept where they survive the machine."""

    url: str

    def put(self, path: Path, name: str) -> Stat:
        """Store a local file under a name, verified; storing the same again changes nothing."""
        ...

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        """Fetch a file to a local path, verified; FileNotFoundError if the store has none."""
        ...

    def stat(self, name: str) -> Stat | None:
        """Return what is stored under a name; None if nothing is."""
        ...

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Return everything whose name starts with the prefix, in the order of names."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file; it is no error if there is none."""
        ...

    def connect(self) -> Store:
        """Return another connection to the store, for another thread."""
        ...
