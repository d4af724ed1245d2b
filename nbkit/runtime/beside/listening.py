"""Listening to the other sessions of a phase while this one runs.

A record that arrives while this session listens proves that its writer lives, and `SILENCE` without one that it has
ended. Both are measured by this machine's monotonic clock alone, so it does not matter how the clocks are set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from nbkit.runtime.beside.living import SILENCE, Other, candidates, describe, open_sessions
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.ledger.segments import LedgerState
from nbkit.runtime.words import show_duration

_TRAIN = (
    "Two sessions that train one phase take the same steps: the checkpoint with the most steps counts, and no stored "
    "one is lost, but the time of one session is. Close one of them."
)
_SHARE = "Items are shared: each session does those that the other has not begun."


def what_follows(trains: bool) -> str:
    """Return what two sessions of one phase do to each other, and what a person should do."""
    return _TRAIN if trains else _SHARE


class _Session(Protocol):
    id: str
    shard: str | None
    device: Any
    ledger: Ledger
    outbox: Outbox

    def say(self, text: str) -> None: ...


def listen(session: _Session, noted: bool) -> Others:
    """Return the other open sessions of a session's phase, and look for them whenever its outbox refreshes the ledger.

    Parameters
    ----------
    session : Session
    noted : bool
        Whether a note names those on this machine already.
    """
    trains = session.device is not None
    others = Others(session.ledger.state, session.id, session.shard, trains, noted, session.say)
    session.outbox.refreshed, session.outbox.beside = others.look, others.may_store
    return others


class Others:
    """The other open sessions of a phase, as this session knows them.

    Parameters
    ----------
    state : LedgerState
        Refreshed from the store now and then.
    me : str
        This session.
    shard : str or None
        Its part of the items; sessions of other parts are expected, and not named.
    trains : bool
        Whether this session may train.
    noted : bool
        Whether a note names those on this machine already.
    say : callable
        Prints one line.
    clock : callable
        A monotonic clock in seconds.
    """

    def __init__(
        self,
        state: LedgerState,
        me: str,
        shard: str | None,
        trains: bool,
        noted: bool,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.me, self.shard, self.trains, self.say = state, me, shard, trains, say
        self._clock, self._began = clock, clock()
        self._seen = dict(state.claims.seen)
        self._heard: dict[str, float] = {}
        self._noted = noted
        self.at_first = open_sessions(state, me)
        self._told = {other.session for other in self.beside()}

    def beside(self) -> list[Other]:
        """Return the open sessions that do the same work as this one."""
        return [other for other in self.open() if self.shard in (None, other.shard) or other.shard is None]

    def open(self) -> list[Other]:
        """Return all other open sessions: those heard lately, and at first those that the clocks speak for."""
        now, listened = time.time(), self._clock() - self._began
        lately = {one for one, at in self._heard.items() if self._clock() - at < SILENCE}
        at_first = {other.session for other in self.at_first if listened < SILENCE}
        found = candidates(self.state) & (lately | at_first) - {self.me}
        return [describe(self.state, one, now) for one in sorted(found)]

    def may_store(self) -> bool:
        """Return whether another session may store the same checkpoints as this one."""
        return self.trains and bool(self.beside())

    def look(self) -> None:
        """Take in what a refresh of the state has brought, and say who has come and gone."""
        for session, seen in list(self.state.claims.seen.items()):
            if self._seen.get(session) != seen:
                self._seen[session], self._heard[session] = seen, self._clock()
        known = {other.session: other for other in self.beside()}
        for session in known.keys() - self._told:
            self.say(f"Another session is at work on this phase: {known[session].words()}. {self.what_follows()}")
        for session in self._told - known.keys():
            ended = session not in candidates(self.state)
            why = "has ended" if ended else f"was not heard for {show_duration(SILENCE)}, so it has ended"
            self.say(f"Session {session} {why}; this one goes on.")
        self._told = set(known)

    def card_rows(self) -> list[tuple[str, str]]:
        """Return rows for the opening card about the sessions beside this one."""
        named = [other for other in self.beside() if not (other.here and self._noted)]
        later = f"; whether it still runs is said in {show_duration(SILENCE)}"
        rows = [("beside", f"session {other.words()}{later * other.ahead}") for other in named]
        return [*rows, ("advice", self.what_follows())] if rows else []

    def what_follows(self) -> str:
        """Return what two sessions of one phase do to each other, and what a person should do."""
        return what_follows(self.trains)
