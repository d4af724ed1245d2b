"""Rounds: an item whose outputs the store has lost is pending again, and done again once it is made anew.

A record ``lost`` cancels what was done in earlier rounds, and what is done after it carries its number. Only these
numbers are compared, so neither the order of the records nor any clock matters.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Rounds:
    """The rounds of items that were lost; all others are in round 0."""

    lost: dict[str, int] = field(default_factory=dict)
    """Key to the first round that counts."""
    _done: dict[str, int] = field(default_factory=dict)

    def take(self, record: dict[str, Any], done: dict[str, list[list[Any]]]) -> None:
        """Take a record ``done`` or ``lost`` into the outputs by key."""
        key, number = record["k"], record.get("r", 0)
        newest = self._done.get(key, 0)
        if record["e"] == "lost":
            self.lost[key] = max(number, self.lost.get(key, 0))
            if newest < number:
                done.pop(key, None)
        elif not self.is_past(record):
            if number > newest:
                self._done[key] = number
                done.pop(key, None)
            known = done.get(key, [])
            done[key] = known + [output for output in record["o"] if output not in known]

    def is_newer(self, record: dict[str, Any]) -> bool:
        """Return whether what was done in earlier rounds counts no more because of a record."""
        return bool(record.get("r", 0) > self._done.get(record["k"], 0))

    def is_past(self, record: dict[str, Any]) -> bool:
        """Return whether something was done in a round that no longer counts."""
        key = record["k"]
        return bool(record.get("r", 0) < max(self.lost.get(key, 0), self._done.get(key, 0)))

    def mark(self, key: str) -> dict[str, int]:
        """Return the field of a record ``done`` that names its round."""
        return {"r": self.lost[key]} if key in self.lost else {}

    def next_lost(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Return the records that make items pending again."""
        now = round(time.time(), 3)
        return [{"e": "lost", "k": key, "r": self.lost.get(key, 0) + 1, "t": now} for key in keys]


def repair_session() -> str:
    """Return a new name under which records of a repair are kept in the ledger."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-repair{uuid.uuid4().hex[:6]}"
