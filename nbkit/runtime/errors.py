"""Errors that nbkit raises on purpose.

Each message names the value, what is allowed, the state on disk, and the next step. The command line prints it without
a traceback.
"""

from __future__ import annotations

import linecache


class NbkitError(Exception):
    """Base class of all errors that nbkit raises on purpose."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it in a cell: the message and the cell's line, without frames of nbkit's own."""
        return [f"{type(self).__name__}: {self}", *self._line_of_cell()]

    def _line_of_cell(self) -> list[str]:
        trace, found = self.__traceback__, ""
        while trace is not None:
            code = trace.tb_frame.f_code
            if trace.tb_frame.f_globals.get("__name__") == "__main__":  # a cell, or a function that a cell defines
                found = (
                    f"Line {trace.tb_lineno} of {code.co_name}"
                    if code.co_name != "<module>"
                    else (f"Line {trace.tb_lineno} of this cell")
                )
                found += f": {linecache.getline(code.co_filename, trace.tb_lineno).strip()}"
            trace = trace.tb_next
        return [found] if found else []


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
