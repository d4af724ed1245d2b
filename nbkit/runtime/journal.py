"""Journal of a session: JSON lines in the file that NBKIT_JOURNAL names, read by `run` and `rehearse`.

It is kept outside of the session's folder, so it survives a rehearsed kill. Readers skip a line that a kill cut short.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

VARIABLE = "NBKIT_JOURNAL"
KILLED = "NBKIT_KILLED"  # names of sessions, with commas, that were killed from outside: no item is to blame
Event = dict[str, Any]
_unwritten: set[str] = set()


_NEEDED = {"begin": "key", "item": "key", "failed": "key", "step": "step", "close": "complete", "open": "slug"}


class _Event(msgspec.Struct):
    """What is read of an event; its other fields are kept as they are."""

    t: float
    e: str
    key: str = ""
    step: int = 0
    s: float = 0.0
    stall_s: float = 0.0
    elapsed: float = 0.0
    complete: bool = False


def append_event(kind: str, fields: Mapping[str, Any]) -> None:
    """Append an event to the journal; do nothing if NBKIT_JOURNAL is not set."""
    path = os.environ.get(VARIABLE)
    if path:
        line = json.dumps({"t": time.time(), "e": kind, **fields}) + "\n"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:  # no work is worth less for want of its account
            _tell_once(path, error)


def _tell_once(path: str, error: OSError) -> None:
    """Say, once for each journal of this process, that its events are lost from here on."""
    if path not in _unwritten:
        _unwritten.add(path)
        print(
            f"[nbkit] The journal {path} cannot be written ({error.strerror or error}). The session goes on and its "
            f"results are not touched; 'nbkit run' and 'rehearse' will not see all of it. Give another path in "
            f"{VARIABLE}."
        )


def read_journal(path: Path) -> list[Event]:
    """Return the complete events of a journal in their order; none if the file does not exist.

    Returns
    -------
    events : list of dict
        Each with ``t``, the time in seconds since 1970, and ``e``, the kind.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.split("\n"):
        try:
            event = msgspec.json.decode(line)
            msgspec.convert(event, _Event)
            if _NEEDED.get(event["e"], "e") not in event:
                continue
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            continue
        events.append(event)
    return events


def of_kind(events: list[Event], kind: str) -> list[Event]:
    """Return the events of one kind."""
    return [event for event in events if event["e"] == kind]
