"""A session's journal: JSON lines in the file that NBKIT_JOURNAL names, read by `run` and `rehearse`.

It lies outside of the session's folder, so it survives a kill. A line that a kill cut short is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "NBKIT_JOURNAL"
Event = dict[str, Any]


def append_event(kind: str, fields: Mapping[str, Any]) -> None:
    """Append an event of this process to the journal; nothing where no journal was asked for."""
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"t": time.time(), "e": kind, **fields}) + "\n")


def read_journal(path: Path) -> list[Event]:
    """Return the whole events of a journal in their order; none where no session was opened.

    Returns
    -------
    events : list of dict
        Each with ``t``, seconds since 1970, and ``e``, its kind.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "e" in event and "t" in event:
            events.append(event)
    return events


def of_kind(events: list[Event], kind: str) -> list[Event]:
    """Return the events of one kind."""
    return [event for event in events if event["e"] == kind]
