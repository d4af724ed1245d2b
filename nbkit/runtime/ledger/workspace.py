"""Workspaces: a folder of its own for each session of a machine.

Sessions of one phase that run side by side never share a database. A session that takes over the workspace of a killed
one also takes over what that one had not brought to the store. A workspace belongs to one store: its content never
reaches another store, and training does not continue there from another store's checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbkit.ground.files import make_folder, write_private
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.database import holds_work
from nbkit.runtime.store.address import show
from nbkit.runtime.words import counted

_MOST = 64
_STORE = "store"  # file in a workspace: the shown address of the store that it belongs to


class Workspace:
    """One of a machine's session folders, locked; the system unlocks it when this process dies."""

    def __init__(self, folder: Path, lock: Any) -> None:
        self.folder, self._lock = folder, lock
        self.elsewhere: list[str] = []  # "FOLDER for STORE", of killed sessions that left work for other stores
        self.beside = 0  # open sessions of this phase on this machine with the same store

    def release(self) -> None:
        self._lock.release()

    def notes(self, slug: str, shard: str | None) -> Iterator[str]:
        """Yield what a person should know of other sessions of this machine."""
        for place in self.elsewhere:
            yield f"A killed session left work in {place}. The next session with that store uploads it."
        if self.beside and shard is None:
            yield (
                f"{counted(self.beside, 'other session')} of {slug} on this machine has this store open, such as "
                "another notebook. Items are shared: this one begins at the other end of the list. A training is not: "
                "both would take the same steps, so close one of them."
            )


def take_workspace(root: Path, store: str) -> Workspace:
    """Lock and return a free workspace: one that holds work of a killed session, else the first free one.

    Parameters
    ----------
    root : Path
        The phase's folder on this machine.
    store : str
        The store's URL; workspaces of other stores are skipped.

    Raises
    ------
    UsageError
        If the folder cannot be created, or 64 of them are in use.
    """
    from filelock import FileLock, Timeout

    first: Workspace | None = None
    elsewhere: list[str] = []
    beside = 0
    for number in range(_MOST):
        folder = root / f"lane-{number}"  # the name that earlier versions gave it
        if first is not None and not folder.exists():
            break
        try:
            make_folder(folder)
            lock = FileLock(folder / "lock")
            lock.acquire(timeout=0)
            owner = _owner(folder, store)
        except Timeout:
            named = folder / _STORE  # written when the session has it
            beside += named.is_file() and show(named.read_text("utf-8", errors="replace")) == store
            continue
        except OSError as error:
            raise UsageError(
                f"A session needs a folder of its own, and {folder} cannot be created or written: {error.strerror}. "
                "Choose another with folder=. Nothing was begun."
            ) from None
        workspace = Workspace(folder, lock)
        if owner != store:
            if holds_work(folder):
                elsewhere.append(f"{folder} for {owner}")
            workspace.release()
            continue
        if first is None:
            first = workspace
        if holds_work(folder):
            if workspace is not first:
                first.release()
            return _with(workspace, elsewhere, beside)
        if workspace is not first:
            workspace.release()
    if first is not None:
        return _with(first, elsewhere, beside)
    raise UsageError(
        f"All {_MOST} folders under {root} are in use by open sessions of this phase or belong to other stores. Close "
        "some, or choose another with folder=. Nothing was begun."
    )


def _owner(folder: Path, store: str) -> str:
    """Return the store that a workspace belongs to; a new one belongs to this store."""
    path = folder / _STORE
    owner = show(path.read_text("utf-8", errors="replace")) if path.is_file() else store
    if not path.is_file() or path.stat().st_mode & 0o077:  # earlier versions wrote it with its secrets, for all to read
        write_private(path, owner.encode("utf-8"))
    return owner


def _with(workspace: Workspace, elsewhere: list[str], beside: int) -> Workspace:
    workspace.elsewhere, workspace.beside = elsewhere, beside
    return workspace
