"""The errors that nbkit raises on purpose.

Each message says the value seen, what is allowed, what is true on disk now, and the next thing to do; the command
line prints it without a traceback.
"""

from __future__ import annotations


class NbkitError(Exception):
    """Say in words what stopped nbkit; every deliberate error is one of these."""

    exit_code = 1


class UsageError(NbkitError, ValueError):
    """Refuse an input that a user can correct: a name, a manifest, a setting, a missing GPU."""

    exit_code = 2


class ColumnError(UsageError, KeyError):
    """Refuse a column that a row does not have; a KeyError too, so that ``row.get(...)`` and ``in`` work."""

    __str__ = Exception.__str__  # KeyError's own shows the repr: quotes around the whole message


class StoreError(NbkitError, OSError):
    """Report that a store did not do what was asked.

    Parameters
    ----------
    message : str
    passing : bool
        True where the same call may succeed later (a time-out, a 5xx); False where it cannot (no permission).
    retry_after : float or None
        Seconds that the store itself asked to wait.
    """

    def __init__(self, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.retry_after = retry_after


class DamagedError(NbkitError):
    """Report state that is there but fails its check, and that nothing whole can stand in for."""
