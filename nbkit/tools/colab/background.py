"""Pushes to Colab that run beside a terminal: one process a phase, with a lock and a log on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nbkit.runtime.errors import UsageError

FOLDER_VARIABLE = "NBKIT_STATE"  # where the logs and locks are, in place of the user's own folder


def state_folder() -> Path:
    """Return the folder of locks and logs; it is made if it does not exist."""
    import platformdirs

    own = os.environ.get(FOLDER_VARIABLE)
    folder = Path(own) if own else Path(platformdirs.user_state_dir("nbkit", appauthor=False))
    (folder / "colab").mkdir(parents=True, exist_ok=True)
    return folder / "colab"


def log_file(slug: str) -> Path:
    """Return the log of a phase's pushes to Colab from this machine."""
    return state_folder() / f"{slug}.log"


@contextmanager
def alone(slug: str) -> Iterator[None]:
    """Keep other pushes of a phase to Colab away from this machine.

    Raises
    ------
    UsageError
        If one goes on.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(state_folder() / f"{slug}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"A push of {slug} to Colab goes on from this machine. 'nbkit log {slug}' shows it. Nothing was begun."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_pushed_from_here(slug: str) -> bool:
    """Return whether a push of a phase to Colab goes on from this machine."""
    try:
        with alone(slug):
            return False
    except UsageError:
        return True


def start(slug: str, store: str, options: Sequence[str]) -> Path:
    """Start ``nbkit push SLUG --host colab`` in a process of its own, and return its log."""
    command = [sys.executable, "-m", "nbkit", "push", slug, "--host", "colab", "--store", store, *options]
    log = log_file(slug)
    with open(log, "ab") as out:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, close_fds=True
        )
    return log
