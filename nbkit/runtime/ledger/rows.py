"""What done items were made of: a short digest of the manifest's row, and the version of the settings.

An item whose row has another path or subject now is not what its outputs were made of, though its key is the same.
The upper bits of a digest are of the folders in which absolute paths begin: hosts have the same files in other places,
so another folder alone is said, and not refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_AT_ONCE = 1000  # items in one record
_BITS = 32  # of the lower part
_LOWER = 2**_BITS - 1
_UPPER = 2**28 - 1  # a record's numbers end at 2**60


def joined(folders: int, rest: int) -> int:
    """Return the digest of a row with absolute paths, of those of its folders and of the rest."""
    return (max(1, folders & _UPPER) << _BITS) | rest


@dataclass
class Rows:
    """Digests of rows by key; items of earlier versions have none and are accepted."""

    made: dict[str, int] = field(default_factory=dict)
    """Digest of the row that a done item was made of."""
    kept: dict[str, set[int]] = field(default_factory=dict)
    """Digests of later rows for which a user kept the outputs."""

    def take(self, record: dict[str, Any], counts: bool, newer: bool) -> None:
        """Take a record ``done`` or ``lost``.

        Parameters
        ----------
        record : dict
        counts : bool
            Whether the item is done by it.
        newer : bool
            Whether what was done in earlier rounds counts no more.
        """
        key, row = record["k"], record.get("row")
        if newer:
            self.made.pop(key, None)
        if counts and row is not None:
            self.made[key] = max(row, self.made.get(key, 0))  # of two sessions at once, whichever order they come in

    def keep(self, rows: dict[str, int]) -> None:
        """Take a record of rows that were accepted."""
        for key, row in rows.items():
            self.kept.setdefault(key, set()).add(row)

    def changed(self, keys: Sequence[str], digests: Iterable[int], is_done: Callable[[str], bool]) -> dict[str, int]:
        """Return {key: digest} of the done items whose row is another one now."""
        if not self.made:
            return {}
        rows = {key: row for key, row in zip(keys, digests, strict=True) if self.made.get(key, row) != row}
        differs = {key: row for key, row in rows.items() if (self.made[key] ^ row) & _LOWER}
        return {key: row for key, row in differs.items() if not self._is_kept(key, row) and is_done(key)}

    def moved(self, keys: Sequence[str], digests: Iterable[int], is_done: Callable[[str], bool]) -> dict[str, int]:
        """Return {key: digest} of the done items of whose row only the folders of absolute paths differ now."""
        if not self.made:
            return {}
        pairs = zip(keys, digests, strict=True)
        rows = {key: row for key, row in pairs if row > _LOWER and self.made.get(key, row) != row}
        known = {key: row for key, row in rows.items() if self.made[key] > _LOWER and row not in self.kept.get(key, ())}
        return {key: row for key, row in known.items() if not (self.made[key] ^ row) & _LOWER and is_done(key)}

    def _is_kept(self, key: str, row: int) -> bool:
        return any(not (kept ^ row) & _LOWER for kept in self.kept.get(key, ()))


def keeping(rows: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the records by which rows are accepted."""
    keys = list(rows)
    for first in range(0, len(keys), _AT_ONCE):
        yield {"e": "kept", "rows": {key: rows[key] for key in keys[first : first + _AT_ONCE]}}


@dataclass
class Made:
    """Done items by the settings that they were made with; items that were made with none are in none of the sets."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    """Version of settings to the keys of items."""

    def take(self, record: dict[str, Any], counts: bool, newer: bool) -> None:
        """Take a record ``done`` or ``lost``, as `Rows.take`."""
        if newer:
            self.drop(record["k"])
        if counts and record.get("v"):
            self.add(record["v"], record["k"])

    def add(self, version: str, key: str) -> None:
        """Add an item that was made with these settings."""
        self.keys.setdefault(version, set()).add(key)

    def drop(self, key: str) -> None:
        """Take out an item of which nothing is left."""
        for keys in list(self.keys.values()):
            keys.discard(key)

    def versions(self) -> set[str]:
        """Return the versions with which something was made that is done."""
        return {version for version, keys in list(self.keys.items()) if keys}
