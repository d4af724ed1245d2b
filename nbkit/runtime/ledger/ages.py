"""Ages of sessions, from their names: until when a session's folder in the ledger is written to."""

from __future__ import annotations

import calendar
import re
import time

_STAMP = re.compile(r"\d{8}T\d{6}")  # a session's name begins with the time of its opening
_WRITTEN_FOR = 2 * 86400.0  # seconds from its opening in which a session's own folder is written to
_FINISHED_AFTER = 2 * _WRITTEN_FOR  # seconds after which nobody writes there, though clocks differ by a day


def _age(session: str) -> float:
    """Return the seconds since a session was opened; 0 where its name does not begin with the time."""
    stamp = _STAMP.match(session)
    try:
        return time.time() - calendar.timegm(time.strptime(stamp[0], "%Y%m%dT%H%M%S")) if stamp else 0.0
    except ValueError:
        return 0.0


def is_late(session: str) -> bool:
    """Return whether a session's records go to its folder for late ones, because its own may be merged by now.

    So nobody writes to an old folder: neither a session that lasts for weeks nor one that takes over what a killed
    session left on a machine long ago.
    """
    return _age(session) > _WRITTEN_FOR


def is_old(session: str) -> bool:
    """Return whether nobody writes to a session's own folder any more."""
    return _age(session) > _FINISHED_AFTER
