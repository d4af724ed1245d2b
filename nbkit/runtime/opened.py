"""The sessions that are open in this process, and what a closed one still does.

A notebook is run again in the same kernel: after its end, or after an interrupt in the middle, where nobody closed its
session. The new session then takes the place of the old one, with all that it has done. A closed session says that it
is closed, whatever cell is run first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from nbkit.runtime.errors import UsageError

_NEED_OPEN = (
    "work", "map", "fit", "prove", "inputs", "checkpoint", "history", "result", "note", "figure", "table", "page"
)  # fmt: skip
_open: dict[int, tuple[tuple[object, ...], _Leavable]] = {}


class _Leavable(Protocol):
    id: str
    slug: str
    shard: str | None

    def _leave(self) -> None: ...


def leave_earlier(session: _Leavable, root: Path, address: str) -> Callable[[], None]:
    """Leave the sessions that earlier runs of the same cell left open in this process.

    Those of other threads, shards, stores or folders are sessions of their own and stay open.

    Returns
    -------
    note_open : callable
        Called when the session is open, so that the next one can take its place.
    """
    place = (os.getpid(), threading.get_ident(), session.slug, session.shard, os.path.realpath(root), address)
    for earlier, (other, former) in list(_open.items()):
        if other == place:
            print(
                f"[nbkit] Session {former.id} of {session.slug} was still open in this process. It is closed now, and "
                "this session goes on from what it has done."
            )
            former._leave()
            _open.pop(earlier, None)
    return lambda: _open.update({id(session): (place, session)})


def shut(session: Any) -> None:
    """Make the methods of a session that has ended say that it is closed."""
    _open.pop(id(session), None)

    def refuse(*args: object, **options: object) -> NoReturn:
        raise closed(session.slug)

    for name in _NEED_OPEN:
        if hasattr(type(session), name):
            setattr(session, name, refuse)  # hides the method of the class


def closed(phase: str) -> UsageError:
    """Return the error for the use of a closed session."""
    return UsageError(
        f"This session of {phase} is closed. Run the cell with nbkit.open_session again: the new session goes on from "
        "what this one did. Nothing was changed."
    )
