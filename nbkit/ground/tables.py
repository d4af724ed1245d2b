"""Rows of a table, however it is given: mappings in any iterable, or a data frame of pandas or polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SHOWN = 60  # characters of a value in a message
_NEEDED = "Rows are names with values, such as [{'key': 'sub-01', 'path': 'a.edf'}], or a data frame."


class NoTable(ValueError):
    """Raised where what was given is not a table; a ValueError of the caller's own rows stays what it is."""


def rows_in(table: Any) -> list[Mapping[Any, Any]]:
    """Return the rows of a table.

    Parameters
    ----------
    table : iterable of mapping, or data frame
        A frame's index is no column.

    Raises
    ------
    NoTable
        If it is not a table; the message says what it is instead.
    """
    if hasattr(table, "columns") and (hasattr(table, "to_dicts") or hasattr(table, "to_dict")):
        columns = list(table.columns)
        if twice := [name for number, name in enumerate(columns) if name in columns[:number]]:
            raise NoTable(f"The data frame has the column {twice[0]!r} twice. Rename one.")
        rows = table.to_dicts() if hasattr(table, "to_dicts") else table.to_dict(orient="records")
        return list(rows)
    if isinstance(table, Mapping):
        raise NoTable(f"The rows are one mapping, {_shown(table)}: put it into a list if it is a row. {_NEEDED}")
    if isinstance(table, str | bytes) or not isinstance(table, Iterable):
        raise NoTable(f"The rows are {_shown(table)}. {_NEEDED}")
    rows = list(table)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            alone = " For keys alone: [{'key': key} for key in keys]." if isinstance(row, str) else ""
            raise NoTable(f"Row {number} is {_shown(row)}. {_NEEDED}{alone}")
    return rows


def _shown(value: Any) -> str:
    text = f"{value!r} ({type(value).__name__})"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({type(value).__name__})"
