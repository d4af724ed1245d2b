"""Which sessions of a phase are open now, as far as the records in the store tell.

The opening record says where a session runs. While it is open, the store gets a record of it at least every `BEAT`
seconds. On the same machine, its process tells as well. The clocks of two machines may differ, so what is read here by
comparing them holds for well-set clocks only; `nbkit.runtime.beside.listening` finds out without them.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbkit.runtime.ledger.claims import BEAT
from nbkit.runtime.ledger.segments import LedgerState
from nbkit.runtime.words import show_duration

SILENCE = 2.5 * BEAT  # seconds without a sign of life after which a session is thought to have ended
_FAR = 2 * 86400.0  # seconds that a clock may be ahead; a session with a later one is not waited for
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Other:
    """A session that is open, or may be.

    Attributes
    ----------
    session, machine : str
        Its name, and the machine that it runs on.
    here : bool
        Whether that is this machine.
    shard : str or None
    since : float
        Seconds since its opening.
    heard : float
        Seconds since the last sign of life, by the two machines' clocks; below zero where its clock is ahead.
    wall : float
        Seconds until its time limit; infinite without one.
    """

    session: str
    machine: str
    here: bool
    shard: str | None
    since: float
    heard: float
    wall: float

    @property
    def ahead(self) -> bool:
        """Whether its clock is so far ahead that nothing follows from the time of its last sign of life."""
        return self.heard < -SILENCE

    def words(self) -> str:
        """Return where it runs, since when, when it was heard last, and when it ends."""
        if self.ahead:
            return f"{self.session} on {self.machine}; its clock is {show_duration(-self.heard)} ahead of this one's"
        opened = time.strftime("%H:%M", time.gmtime(time.time() - self.since))
        wall = (
            "it has no time limit" if math.isinf(self.wall) else f"its wall is in {show_duration(max(0.0, self.wall))}"
        )
        return (
            f"{self.session} on {self.machine}, open since {opened} UTC ({show_duration(max(0.0, self.since))}), last "
            f"heard {show_duration(max(0.0, self.heard))} ago; {wall}"
        )


def whereabouts() -> dict[str, Any]:
    """Return what the opening record says of the place: the machine's name, a mark of its boot, and the process."""
    machine = "".join(c for c in socket.gethostname()[:60] if c.isprintable()) or "?"
    return {"machine": machine, "boot": _boot(), "pid": os.getpid()}


def _boot() -> str:
    return _marked(socket.gethostname())


@lru_cache
def _marked(machine: str) -> str:
    boot = _BOOT.read_text() if _BOOT.is_file() else ""
    return hashlib.sha256(f"{machine} {boot}".encode()).hexdigest()[:12]


def open_sessions(state: LedgerState, me: str = "", now: float | None = None) -> list[Other]:
    """Return the sessions that are open by the records and the clocks, the oldest first.

    Parameters
    ----------
    state : LedgerState
    me : str
        The session that asks, which is left out.
    now : float or None
        Seconds since 1970.
    """
    now = time.time() if now is None else now
    others = [describe(state, session, now) for session in candidates(state) - {me}]
    found = [one for one in others if -_FAR < one.heard < SILENCE and (one.ahead or one.wall > -SILENCE)]
    return sorted(found, key=lambda other: (-other.since, other.session))


def candidates(state: LedgerState) -> set[str]:
    """Return the sessions of which nobody has recorded that they ended, and whose process, if it is here, exists."""
    import psutil

    claims, here = state.claims, _boot()
    left = claims.opened.keys() - claims.closed - claims.died.keys() - claims.ended.keys()
    records = {session: state.sessions.get(session, {}).get("open", {}) for session in left}
    return {s for s, r in records.items() if r.get("boot") != here or psutil.pid_exists(r.get("pid", 0))}


def describe(state: LedgerState, session: str, now: float) -> Other:
    """Return what is known of a session."""
    began, limit = state.claims.opened[session]
    record = state.sessions.get(session, {}).get("open", {})
    host, machine = str(record.get("host", "")), str(record.get("machine", ""))
    named = machine if host in ("", "local") else f"{host} ({machine})" if machine else host
    heard, here = now - max(began, state.claims.seen.get(session, 0.0)), record.get("boot") == whereabouts()["boot"]
    return Other(
        session, named or "another machine", here, record.get("shard"), now - began, heard, began + limit - now
    )
