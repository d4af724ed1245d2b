"""Memory of Drive's ids by name, and how long it is valid.

For a while, Drive's listings may lack what was just written. So what this process wrote stays known for a minute even
if a listing lacks it, and what it deleted stays unknown even if a listing still shows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from nbkit.runtime.store.drive.answers import Row

FRESH = 60.0  # seconds for which a listing is valid
LAG = 60.0  # seconds for which a listing may lack what was just written


@dataclass(frozen=True)
class Entry:
    """What Drive holds under one id.

    Attributes
    ----------
    id : str
    size : int
        Bytes.
    md5 : str
        Of the content, in hexadecimal.
    made, changed : str
        Drive's own times of creation and change, which sort as text.
    """

    id: str
    size: int
    md5: str
    made: str
    changed: str

    @staticmethod
    def of(row: Row) -> Entry:
        """Return the entry of one of Drive's rows."""
        made: str = row["createdDate"]
        return Entry(row["id"], int(row["fileSize"]), row["md5Checksum"], made, row.get("modifiedDate", made))

    def holds(self, size: int, md5: str) -> bool:
        """Return whether the content has this size and MD5."""
        return self.size == size and self.md5 == md5


def first_made(entries: Iterable[Entry]) -> Entry:
    """Return the oldest of several files of a name, which stays."""
    return min(entries, key=lambda e: (e.made, e.id))


def last_changed(entries: Iterable[Entry]) -> Entry:
    """Return the newest of several files of a name, which holds its content."""
    return max(entries, key=lambda e: (e.changed, e.id))


class Memory:
    """Ids of folders and files by path; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._removed: set[str] = set()
        self.clear()

    def clear(self) -> None:
        """Forget everything except what was deleted."""
        with self._lock:
            self._folders: dict[str, tuple[str, ...]] = {}
            self._scanned: dict[str, float] = {}
            self._files: dict[str, dict[str, dict[str, Entry]]] = {}
            self._listed: dict[str, float] = {}
            self._written: dict[str, float] = {}

    # -- folders ------------------------------------------------------------------------------------------------------

    def folder(self, path: str) -> tuple[str, ...]:
        """Return the ids of all known folders of a path."""
        with self._lock:
            return self._folders.get(path, ())

    def is_scanned(self, path: str) -> bool:
        """Return whether the list of subfolders of a path is still valid."""
        with self._lock:
            return time.monotonic() - self._scanned.get(path, float("-inf")) < FRESH

    def is_seen(self, path: str, within: float) -> bool:
        """Return whether Drive listed a folder in the last seconds; one that we made may have a twin since."""
        with self._lock:
            ids = self._folders.get(path, ())
            recent = time.monotonic() - self._scanned.get(path.rpartition("/")[0], float("-inf")) < within
            return bool(ids) and recent and not any(id in self._written for id in ids)

    def take_subfolders(self, path: str, rows: Iterable[Row]) -> list[str]:
        """Add the folders that Drive listed in a path; return the paths of all that exist there."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row in rows:
            found.setdefault(join(path, row["title"]), []).append((row["createdDate"], row["id"]))
        with self._lock:
            self._scanned[path] = time.monotonic()
            # folders that we know and that the listing lacks were deleted, or were created too recently to be listed
            for known in [p for p in self._folders if p.rpartition("/")[0] == path]:
                found.setdefault(known, [])
            for sub, dated in found.items():
                ids = tuple(id for _, id in sorted(dated))
                ids += tuple(id for id in self._folders.get(sub, ()) if id not in ids and self._is_late(id))
                if set(ids) - set(self._folders.get(sub, ())):
                    self._listed.pop(sub, None)  # another folder may have other files
                self._folders[sub] = ids
            return [sub for sub in found if self._folders[sub]]

    def made_folder(self, path: str, id: str) -> None:
        """Record that this process has created a folder, which is empty."""
        with self._lock:
            self._written[id] = self._scanned[path] = self._listed[path] = time.monotonic()
            self._folders[path], self._files[path] = (id,), {}

    # -- files --------------------------------------------------------------------------------------------------------

    def entries(self, name: str) -> list[Entry]:
        """Return the files of a name."""
        path, title = split(name)
        with self._lock:
            return list(self._files.get(path, {}).get(title, {}).values())

    def names(self, path: str) -> dict[str, list[Entry]]:
        """Return the names in a folder with their files."""
        with self._lock:
            return {join(path, t): list(ids.values()) for t, ids in self._files.get(path, {}).items() if ids}

    def is_listed(self, path: str) -> bool:
        """Return whether the listing of a folder is still valid."""
        with self._lock:
            return time.monotonic() - self._listed.get(path, float("-inf")) < FRESH

    def newest(self, path: str) -> str:
        """Return the time of the latest change in a folder, "" if its files were never listed."""
        with self._lock:
            if path not in self._listed:
                return ""
            return max((e.changed for ids in self._files.get(path, {}).values() for e in ids.values()), default="")

    def take_files(self, path: str, rows: Iterable[Row], began: float) -> None:
        """Replace the files of a folder by all that Drive listed there."""
        with self._lock:
            new: dict[str, dict[str, Entry]] = {}
            for title, ids in self._files.get(path, {}).items():
                # what this process has just written may be missing in the listing and must not be forgotten
                late = {id: entry for id, entry in ids.items() if self._is_late(id)}
                if late:
                    new[title] = late
            self._files[path], self._listed[path] = new, began
            self.add_files(path, rows)

    def add_files(self, path: str, rows: Iterable[Row], listed: float | None = None) -> None:
        """Add some files of a folder."""
        with self._lock:
            files = self._files.setdefault(path, {})
            for row in rows:
                # Google's own documents have no checksum, and are not files of ours
                if row["id"] not in self._removed and "md5Checksum" in row:
                    files.setdefault(row["title"], {})[row["id"]] = Entry.of(row)
            if listed is not None:
                self._listed[path] = listed

    def take_name(self, name: str, rows: Iterable[Row]) -> None:
        """Replace the files of one name by all that Drive listed."""
        path, title = split(name)
        with self._lock:
            ids = self._files.setdefault(path, {}).setdefault(title, {})
            # older files that the answer lacks are gone; recent ones may only be missing in it
            for id in [id for id in ids if not self._is_late(id)]:
                del ids[id]
            self.add_files(path, rows)

    def remember(self, name: str, row: Row, written: bool = False) -> Entry:
        """Add the file of one id; `written` if this process has just written it."""
        path, title = split(name)
        entry = Entry.of(row)
        with self._lock:
            self._files.setdefault(path, {}).setdefault(title, {})[entry.id] = entry
            if written:
                self._written[entry.id] = time.monotonic()
        return entry

    def forget(self, name: str, id: str, removed: bool = False) -> None:
        """Forget an id; `removed` if this process has deleted it."""
        path, title = split(name)
        with self._lock:
            self._written.pop(id, None)
            self._files.get(path, {}).get(title, {}).pop(id, None)
            if removed:
                self._removed.add(id)

    def _is_late(self, id: str) -> bool:
        return time.monotonic() - self._written.get(id, float("-inf")) < LAG


def join(path: str, title: str) -> str:
    """Return the name of a title in a folder."""
    return f"{path}/{title}" if path else title


def split(name: str) -> tuple[str, str]:
    """Return a name's folder and title."""
    path, _, title = name.rpartition("/")
    return path, title
