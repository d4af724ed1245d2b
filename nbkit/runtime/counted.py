"""Counts in words."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """Write a count before its word.

    Examples
    --------
    >>> counted(1, "item"), counted(1200, "item")
    ('1 item', '1,200 items')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"
