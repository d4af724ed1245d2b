"""Lanes: one folder a session on a machine.

Sessions of one phase that run side by side never share a database; a session that takes over the lane of a killed
one takes over what that had not brought to the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError

_LANES = 64


class Lane:
    """Hold one of a machine's session folders; the system frees it when this process dies."""

    def __init__(self, folder: Path, lock: Any) -> None:
        self.folder, self._lock = folder, lock

    def release(self) -> None:
        self._lock.release()


def take_lane(root: Path) -> Lane:
    """Give the first folder that no living session holds; one with work of a killed session comes first."""
    from filelock import FileLock, Timeout

    for number in range(_LANES):
        folder = root / f"lane-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return Lane(folder, lock)
    raise UsageError(f"{_LANES} sessions of one phase are open on this machine under {root}; close some first.")
