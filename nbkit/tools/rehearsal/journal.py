"""A session's journal: JSON lines in the file that NBKIT_JOURNAL names, read by `run` and `rehearse`.

It lies outside of the session's folder, so it survives a kill. A line that a kill tore is dropped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VARIABLE = "NBKIT_JOURNAL"
Event = dict[str, Any]


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
