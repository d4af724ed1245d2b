"""Lanes: one folder a session on a machine.

Sessions of one phase that run side by side never share a database; a session that takes over the lane of a killed
one takes over what that had not brought to the store. A lane belongs to one store: what is in it never reaches another,
and no training goes on there from another's checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.database import holds_work

_LANES = 64
_STORE = "store"  # in the lane: the URL of the store it belongs to


class Lane:
    """Hold one of a machine's session folders; the system frees it when this process dies."""

    def __init__(self, folder: Path, lock: Any) -> None:
        self.folder, self._lock = folder, lock
        self.elsewhere: list[str] = []  # lanes whose killed sessions left work for other stores, in words

    def release(self) -> None:
        self._lock.release()


def take_lane(root: Path, store: str) -> Lane:
    """Return a folder that no living session holds: one with work of a killed session first, else the first free.

    Parameters
    ----------
    root : Path
        The phase's folder on this machine.
    store : str
        The store's URL; lanes of other stores are passed over.

    Raises
    ------
    UsageError
        Where the folder cannot be made, or 64 sessions hold one each.
    """
    from filelock import FileLock, Timeout

    first: Lane | None = None
    elsewhere: list[str] = []
    for number in range(_LANES):
        folder = root / f"lane-{number}"
        if first is not None and not folder.exists():
            return _told(first, elsewhere)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock")
            lock.acquire(timeout=0)
            owner = _owner(folder, store)
        except Timeout:
            continue
        except OSError as error:
            raise UsageError(
                f"a session needs a folder of its own, and {folder} cannot be made or written: {error.strerror}. Give "
                "another with folder=. Nothing was begun."
            ) from None
        lane = Lane(folder, lock)
        if owner != store:
            if holds_work(folder):
                elsewhere.append(f"{folder} for {owner}")
            lane.release()
            continue
        if first is None:
            first = lane
        if holds_work(folder):
            if lane is not first:
                first.release()
            return _told(lane, elsewhere)
        if lane is not first:
            lane.release()
    if first is not None:
        return _told(first, elsewhere)
    raise UsageError(
        f"{_LANES} folders under {root} are of other stores or of open sessions of this phase; close some, or give "
        "another folder=. Nothing was begun."
    )


def _owner(folder: Path, store: str) -> str:
    """Return the store that a lane belongs to; a new one belongs to this."""
    path = folder / _STORE
    if not path.is_file():
        write_atomically(path, lambda file: file.write(store.encode("utf-8")))
    return path.read_text("utf-8")


def _told(lane: Lane, elsewhere: list[str]) -> Lane:
    lane.elsewhere = elsewhere
    return lane
