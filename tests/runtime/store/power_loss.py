"""A file system that loses its power: what was not synced is gone.

One session is recorded, and the tree that would survive is rebuilt for the moment after each of its operations. A
file's content survives from its fsync on; a name in a folder survives from the folder's fsync on, and so does a new
folder itself. What SQLite writes is not recorded and counts as lost.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODES = ("nothing", "names", "deletions")
_NOT_RECORDED = ("ledger.sqlite", "lock", "in-work")


@dataclass
class Recording:
    """The operations of a session below one root, in their order, with what was acknowledged among them."""

    root: str
    events: list[tuple[Any, ...]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)  # handles, so that no number of a file is used twice
    lock: threading.RLock = field(default_factory=threading.RLock)

    def tell(self, what: str, value: Any) -> None:
        """Record an acknowledgement."""
        with self.lock:
            self.events.append(("told", what, value))


@contextlib.contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what happens below a folder."""
    recording = Recording(os.path.realpath(root))
    record, lock = recording.events.append, recording.lock
    opened, os_opened = builtins.open, os.open
    before = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "mkdir", "link", "unlink", "remove")}

    def below(path: Any) -> str | None:
        if not isinstance(path, str | os.PathLike):
            return None
        text = os.path.abspath(os.fspath(path))
        return text if text.startswith(recording.root + os.sep) else None

    def note_new(path: str) -> int:
        handle = os_opened(path, os.O_RDONLY)
        recording.kept.append(handle)
        number = os.fstat(handle).st_ino
        record(("file", path, number))
        return number

    def open_file(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        where = below(file)
        if where is None or not set(mode) & set("wax+"):
            return opened(file, mode, *args, **more)
        with lock:
            new = not os.path.exists(where)
            result = opened(file, mode, *args, **more)
            if new:
                note_new(where)
            return result

    def os_open(path: Any, flags: int, *args: Any, **more: Any) -> int:
        where = below(path)
        if where is None or not flags & os.O_CREAT:
            return os_opened(path, flags, *args, **more)
        with lock:
            new = not os.path.exists(where)
            handle = os_opened(path, flags, *args, **more)
            if new:
                note_new(where)
            return handle

    def fsync(handle: int) -> None:
        with lock:
            before["fsync"](handle)
            path = os.readlink(f"/proc/self/fd/{handle}")
            if path == recording.root or path.startswith(recording.root + os.sep):
                if os.path.isdir(path):
                    record(("sync folder", path))
                else:
                    with opened(f"/proc/self/fd/{handle}", "rb") as file:
                        content = file.read()
                    recording.kept.append(os.dup(handle))
                    record(("sync", os.fstat(handle).st_ino, content))

    def change(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            place = below(args[0]), below(args[1]) if len(args) > 1 else None
            with lock:
                result = before[name](*args, **more)
                if name == "link" and place[1]:
                    record(("file", place[1], os.stat(place[1]).st_ino))
                elif name == "mkdir" and place[0]:
                    record(("folder", place[0]))
                elif name in ("unlink", "remove") and place[0]:
                    record(("unlink", place[0]))
                elif place[0] and place[1]:
                    record(("rename", *place))
                return result

        return call

    instead = {name: change(name) for name in before} | {"fsync": fsync, "open": os_open}
    builtins.open = io.open = open_file  # type: ignore[assignment]
    for name, function in instead.items():
        setattr(os, name, function)
    try:
        yield recording
    finally:
        builtins.open = io.open = opened
        for name, function in {**before, "open": os_opened}.items():
            setattr(os, name, function)
        for handle in recording.kept:
            os.close(handle)


@dataclass
class State:
    """What survives a loss of power at one moment.

    Attributes
    ----------
    at : int
        Number of operations before it.
    files : dict of str to bytes
        By path relative to the root.
    told : dict of str to list
        What had been acknowledged.
    """

    at: int
    files: dict[str, bytes]
    told: dict[str, list[Any]]

    def build(self, root: Path, without: tuple[str, ...] = ()) -> None:
        """Write the files below a folder, without those of some top folders."""
        for name, content in self.files.items():
            if name.partition("/")[0] not in without:
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def survivors(recording: Recording, mode: str) -> Iterator[State]:
    """Yield the state after each operation that changes what survives or what was acknowledged.

    Parameters
    ----------
    mode : str
        ``nothing`` of what was not synced survives; ``names`` survive at once, contents when they are synced;
        ``deletions`` survive at once, all else when it is synced.
    """
    live: dict[str, dict[str, int | None]] = {recording.root: {}}  # None is a folder
    synced: dict[str, dict[str, int | None]] = {recording.root: {}}
    contents: dict[int, bytes] = {}
    told: dict[str, list[Any]] = {}

    def walk(folders: dict[str, dict[str, int | None]], path: str) -> Iterator[tuple[str, int]]:
        for name, number in folders.get(path, {}).items():
            where = f"{path}{os.sep}{name}"
            if number is None:
                yield from walk(folders, where)
            elif not name.startswith(_NOT_RECORDED):
                yield where[len(recording.root) + 1 :], number

    last: tuple[Any, Any] | None = None
    for at, (kind, *what) in enumerate(recording.events, 1):
        folder, name = os.path.split(str(what[0]))
        if kind == "told":
            told.setdefault(what[0], []).append(what[1])
        elif kind == "file":
            live[folder][name] = what[1]
            contents.setdefault(what[1], b"")
        elif kind == "folder":
            live[folder][name] = None
            live[what[0]], synced[what[0]] = {}, {}
        elif kind == "unlink":
            live[folder].pop(name, None)
            if mode == "deletions":
                synced[folder].pop(name, None)
        elif kind == "rename":
            target, new = os.path.split(what[1])
            live[target][new] = live[folder].pop(name)
        elif kind == "sync":
            contents[what[0]] = what[1]
        elif kind == "sync folder":
            synced[what[0]] = dict(live[what[0]])
        survived = live if mode == "names" else synced
        files = {path: contents[number] for path, number in walk(survived, recording.root)}
        now = (files, {key: list(values) for key, values in told.items()})
        if now != last:
            last = now
            yield State(at, *now)
