"""Lanes: one folder a session on a machine.

Sessions of one phase that run side by side never share a database; a session that takes over the lane of a killed
one takes over what that had not brought to the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbkit.runtime.database import holds_work
from nbkit.runtime.errors import UsageError

_LANES = 64


class Lane:
    """Hold one of a machine's session folders; the system frees it when this process dies."""

    def __init__(self, folder: Path, lock: Any) -> None:
        self.folder, self._lock = folder, lock

    def release(self) -> None:
        self._lock.release()


def take_lane(root: Path) -> Lane:
    """Give a folder that no living session holds: one with work of a killed session first, else the first free.

    Raises
    ------
    UsageError
        Where the folder cannot be made, or 64 sessions hold one each.
    """
    from filelock import FileLock, Timeout

    first: Lane | None = None
    for number in range(_LANES):
        folder = root / f"lane-{number}"
        if first is not None and not folder.exists():
            return first
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            raise UsageError(
                f"a session needs a folder of its own, and {folder} cannot be made or written: {error.strerror}. Give "
                "another with folder=. Nothing was begun."
            ) from None
        lane = Lane(folder, lock)
        if first is None:
            first = lane
        if holds_work(folder):
            if lane is not first:
                first.release()
            return lane
        if lane is not first:
            lane.release()
    if first is not None:
        return first
    raise UsageError(f"{_LANES} sessions of one phase are open on this machine under {root}; close some first.")
