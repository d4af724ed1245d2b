"""The past sessions of a phase, from their records in the store.

A session without a closing record was killed, or is still open where it was heard lately. Its length is then unknown,
unless it was rehearsed and the rehearsal recorded it. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nbkit.runtime.ledger.records import Record, number_of
from nbkit.runtime.ledger.segments import LedgerState

OPEN = "open now"
LONGEST = 366 * 86400.0  # seconds that a session can last
_ENDED = {"complete": "complete", "wall": "stopped before the wall", "left": "ended with work left"}


@dataclass
class Tally:
    """Counts of one session's records."""

    items: int = 0
    seconds: float = 0.0
    timed: int = 0
    failed: int = 0


@dataclass
class CountedState(LedgerState):
    """State of a ledger that also counts each session's work and keeps the last failure of each item."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    failed_at: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Key to the time and the error of its last failure."""

    def add(self, session: str, numbered: Iterable[tuple[int | None, Record]]) -> None:
        with self._lock:
            taken = tuple(self._numbers.get(session, ()))
            super().add(session, self._counted(session, taken, numbered))

    def _counted(
        self, session: str, taken: tuple[tuple[int, int], ...], numbered: Iterable[tuple[int | None, Record]]
    ) -> Iterator[tuple[int | None, Record]]:
        tally = self.tallies.setdefault(session, Tally())
        for number, record in numbered:
            # a record that stands in two segments counts once, as in the state itself
            if number is not None and not any(first <= number <= last for first, last in taken):
                if record.get("e") == "done":
                    tally.items += 1
                    if "s" in record:
                        tally.seconds += float(record["s"])
                        tally.timed += 1
                elif record.get("e") == "failed":
                    tally.failed += 1
                    at = float(record.get("t", 0.0))
                    if at >= self.failed_at.get(record["k"], (0.0, ""))[0]:
                        self.failed_at[record["k"]] = at, str(record.get("err", ""))
            yield number, record

    def last_error(self) -> tuple[str, float, str] | None:
        """Return (key, time, error) of the newest failure among items that were not done later."""
        left = [(at, key, text) for key, (at, text) in self.failed_at.items() if key not in self.done]
        if not left:
            return None
        at, key, text = max(left)
        return key, at, text


@dataclass(frozen=True)
class PastSession:
    """One session of a phase.

    Attributes
    ----------
    session, host : str
    shard : str or None
    opened : float or None
        Unix time.
    length : float or None
        Seconds from opening to close, or to the kill by a rehearsal; None where it is unknown.
    limit : float or None
        Seconds that it was allowed to last.
    items, failed : int
        Items whose outputs it stored, and failures that it recorded.
    work : float
        Seconds spent on items; for items in parallel, at most the session's length.
    from_step, to_step : int or None
        First and last step of its training, as far as it is in the store.
    ended : str
        How it ended, such as ``complete``, ``stopped before the wall``, ``killed``, ``not closed``, or ``open now``.
    """

    session: str
    host: str = ""
    shard: str | None = None
    opened: float | None = None
    length: float | None = None
    limit: float | None = None
    items: int = 0
    failed: int = 0
    work: float = 0.0
    from_step: int | None = None
    to_step: int | None = None
    ended: str = ""

    @property
    def closed(self) -> bool:
        """Whether it ended by itself."""
        return self.ended not in ("not closed", "killed", OPEN)

    @property
    def open(self) -> bool:
        """Whether it runs now, as far as the store tells."""
        return self.ended == OPEN

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def past_sessions(
    state: CountedState,
    newest_step: int | None = None,
    rehearsal: Mapping[str, Any] | None = None,
    living: Collection[str] = (),
) -> tuple[PastSession, ...]:
    """Return a phase's sessions, oldest first.

    Parameters
    ----------
    state : CountedState
    newest_step : int or None
        Step of the newest checkpoint in the store.
    rehearsal : mapping or None
        What `nbkit rehearse` recorded of its sessions.
    living : collection of str
        Sessions that are open now.
    """
    watched = rehearsed_rows(rehearsal)
    ordered = sorted(state.sessions.items(), key=lambda one: (one[1].get("open", {}).get("t", 0.0), one[0]))
    begins = [_whole(events.get("open", {}).get("step")) for _, events in ordered] + [newest_step]
    found = []
    for number, (name, events) in enumerate(ordered):
        begin, close = events.get("open", {}), events.get("close")
        tally, seen = state.tallies.get(name, Tally()), watched.get(name, {})
        opened, closed = number_of(begin.get("t")), number_of(close.get("t")) if close else None
        length = closed - opened if opened is not None and closed is not None else number_of(seen.get("length_s"))
        length = number_of(close.get("lasted")) or length if close else length
        if length is not None and not 0 <= length <= LONGEST:
            length = None  # a clock was set in between
        to_step = _whole(close.get("step")) if close else begins[number + 1]
        work = min(tally.seconds, length) if length and length > 0 else tally.seconds
        found.append(
            PastSession(
                session=name, host=str(begin.get("host", "")), shard=begin.get("shard"), opened=opened,
                length=length, limit=number_of(begin.get("limit")), items=tally.items, failed=tally.failed,
                work=round(work, 3), from_step=begins[number], to_step=to_step,
                ended=OPEN if name in living else _ending(close, seen),
            )
        )  # fmt: skip
    return tuple(found)


def goodput_of(
    past: Sequence[PastSession], useful: float | None, rehearsal: Mapping[str, Any] | None = None
) -> float | None:
    """Return the part of the sessions' time that was useful work; None where a session's length is unknown.

    Parameters
    ----------
    past : sequence of PastSession
    useful : float or None
        Seconds of useful work, each piece counted once.
    rehearsal : mapping or None
        What `nbkit rehearse` recorded. It timed every step, so its value is preferred.
    """
    sums = rehearsal.get("sums") if isinstance(rehearsal, Mapping) else None
    measured = number_of(sums.get("goodput")) if isinstance(sums, Mapping) else None
    if measured is not None:
        return measured
    lengths = [one.length for one in past]
    if not useful or not lengths or None in lengths or not sum(lengths):
        return None
    return min(1.0, useful / sum(lengths))


def rehearsed_rows(rehearsal: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Return the sessions of a rehearsal by name; empty where the document has another form."""
    rows = rehearsal.get("sessions") if isinstance(rehearsal, Mapping) else None
    known = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return {str(row["session"]): row for row in known if row.get("session")}


def _ending(close: Record | None, seen: Mapping[str, Any]) -> str:
    if close is not None:
        reason = str(close.get("reason", ""))
        return _ENDED.get(reason, f"stopped: {reason}" if reason else "closed")
    return "killed" if seen.get("ended") in ("killed", "overran") else "not closed"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60 else None
