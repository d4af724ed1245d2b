"""Errors that nbkit raises on purpose.

Each message names the value, what is allowed, the state on disk, and the next step. The command line prints it without
a traceback.
"""

from __future__ import annotations


class NbkitError(Exception):
    """Base class of all errors that nbkit raises on purpose."""

    exit_code = 1


class UsageError(NbkitError, ValueError):
    """An input that the user can correct is not valid: a name, a manifest, a setting, a missing GPU."""

    exit_code = 2


class ColumnError(UsageError, KeyError):
    """A row does not have a column. It is also a KeyError, so that ``row.get(...)`` and ``in`` work."""

    __str__ = Exception.__str__  # KeyError's own shows the message in quotes


class StoreError(NbkitError, OSError):
    """A store failed to do what was requested.

    Parameters
    ----------
    message : str
    passing : bool
        True if the same call may succeed later (a time-out, HTTP 5xx), False if it cannot (no permission).
    retry_after : float or None
        Seconds that the store asked to wait.
    """

    def __init__(self, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.retry_after = retry_after


class DamagedError(NbkitError):
    """Stored state fails its check, and there is no intact copy of it."""


class ItemTimeout(NbkitError):
    """An item took longer than it may.

    Parameters
    ----------
    message : str
    wall : bool
        Whether it was the session's end that interrupted it, which is no fault of the item's yet.
    """

    def __init__(self, message: str, wall: bool = False) -> None:
        super().__init__(message)
        self.wall = wall

    def __reduce__(self) -> tuple[type[ItemTimeout], tuple[str, bool]]:
        return type(self), (str(self), self.wall)


class ProofEnded(NbkitError):
    """Ends a notebook that `nbkit prove` runs, after the proof."""

    exit_code = 0
