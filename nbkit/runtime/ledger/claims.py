"""Claims: what a session is about to do, known to the store before it begins, and what is to blame where one died.

A session that does not close leaves its newest claim open. One of the items in it may have taken the machine down: they
are suspects, done after all others and in smaller claims, until a claim holds one item and the death is exactly that
item's. An item with enough exact deaths is set aside: three, where no session died otherwise.

Sessions also die for no item's reason, as where a host takes its machine back. Where that is usual, three deaths in one
item prove little, so more are asked for: as many as such deaths make improbable. So random kills do not set a healthy
item aside, and whoever kills sessions on purpose says so (``ended``). The verdict is made anew from the records each
time: it falls where the item is done after all, as with ``retry_failed=True``.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.words import listed

DEATHS = 3  # exact ones that set an item aside where sessions do not die otherwise
_MOST_DEATHS = 10  # that are asked for where they often do
_CHANCE = 0.01  # probability that random kills alone set an item aside
_SMALLER = 32  # parts of an open claim in which its items are claimed again
_AS_LONG = 0.9  # times the length of this session that a session has to have whose wall counts
_UNLIMITED = 2 * 86400.0  # seconds after which a session without a limit is no longer thought to live
BEAT = 120.0  # seconds after which an open session leaves a sign of life in the store
ALIVE: dict[str, Any] = {"e": "begun", "n": 0, "k": []}  # that sign: a claim of nothing, which all versions can read
OUTSIDE, BETWEEN = "outside", "between items"  # how a session ended that no item ended


@dataclass
class Claims:
    """Records about sessions that began items, by session."""

    newest: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Number and keys of the newest claim; all items of earlier ones had ended when it was made."""
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    """(session, key) to the number of the newest claim in which the item raised an error, so did not kill."""
    died: dict[str, dict[str, float]] = field(default_factory=dict)
    """Items during which sessions certainly ended, and the length of the session where the wall ended it, else 0."""
    broken: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """(session, number) to items, one of which killed a worker."""
    ended: dict[str, str] = field(default_factory=dict)
    """How sessions ended that no item ended."""
    opened: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Time of the opening and length, infinite for one without a limit."""
    seen: dict[str, float] = field(default_factory=dict)
    """Time of the newest record."""
    closed: set[str] = field(default_factory=set)
    anonymous: Counter[str] = field(default_factory=Counter)
    """Key to deaths that records of earlier versions tell of, which do not name the session."""

    def take(self, session: str, record: dict[str, Any]) -> bool:
        """Take a record; return False for a death that was known."""
        kind, of = record["e"], record.get("of", "")
        self.seen[session] = max(self.seen.get(session, 0.0), float(record.get("t", 0.0)))
        if kind == "begun":
            if record["n"] > self.newest.get(session, (0,))[0]:
                self.newest[session] = record["n"], record["k"]
        elif kind == "failed":
            known = self.failed.get((session, record["k"]), 0)
            self.failed[session, record["k"]] = max(known, record.get("n", 0))
        elif kind == "died" and not of:
            self.anonymous[record["k"]] += 1
        elif kind == "died":
            known_of = self.died.setdefault(of, {})
            new = record["k"] not in known_of
            known_of[record["k"]] = min(known_of.get(record["k"], math.inf), record.get("wall", 0.0))
            return new
        elif kind == "broke":
            self.broken[session, record["n"]] = record["k"]
        elif kind == "ended":
            self.ended[of] = max(self.ended.get(of, ""), record["how"])
        elif kind == "open":
            began = float(record.get("t", 0.0))
            self.opened[session] = began, float(record.get("limit") or math.inf)
        elif kind == "close":
            self.closed.add(session)
            self.newest.pop(session, None)
        return True

    def open_claim(self, session: str) -> tuple[int, list[str]]:
        """Return the number of keys in a session's newest claim, and those in which it may have ended."""
        if session in self.died:
            return 1, sorted(self.died[session])
        number, keys = self.newest.get(session, (0, []))
        return len(keys), [key for key in keys if self.failed.get((session, key), 0) < number]

    def may_live(self, session: str, openings: list[float], now: float) -> bool:
        """Return whether a session without a closing record may be at work: others have opened while it was."""
        if session in self.died or session not in self.opened:
            return False
        began, limit = self.opened[session]
        latest = began + min(limit, _UNLIMITED)
        after = bisect.bisect_right(openings, began)
        return after < len(openings) and openings[after] < self.seen[session] and now < latest


@dataclass(frozen=True)
class Blame:
    """What the records say about items that are not done.

    Attributes
    ----------
    deaths : Counter
        Key to the number of sessions that ended exactly in it.
    suspects : dict
        Key to (size of its next claim, place among the suspects).
    aside : dict
        Key to its number of deaths, of items that are set aside.
    """

    deaths: Counter[str]
    suspects: dict[str, tuple[int, int]]
    aside: dict[str, int]

    def claim_size(self, key: str) -> int:
        """Return how many items may be claimed together with this one."""
        return self.suspects.get(key, (_SMALLER**4, 0))[0]


def blame(claims: Claims, is_done: Callable[[str], bool], session: str, now: float) -> Blame:
    """Weigh what is known about sessions that did not close.

    Parameters
    ----------
    claims : Claims
    is_done : callable
        Whether an item is done, and so not to blame.
    session : str
        The session that asks.
    now : float
        Seconds since 1970.
    """
    deaths = Counter({key: count for key, count in claims.anonymous.items() if not is_done(key)})
    suspects: dict[str, tuple[int, int]] = {}
    openings = sorted(began for began, _ in claims.opened.values())
    at_random, judged = 0, len(claims.closed - {session})
    newest = max(claims.opened.values(), default=(0.0, math.inf))
    limit = claims.opened.get(session, newest)[1]

    def suspect(keys: list[str], size: int) -> list[str]:
        keys = [key for key in keys if not is_done(key)]
        smaller = max(1, size // _SMALLER)
        for place, key in enumerate(reversed(keys)):  # those at the end were hardly begun
            suspects[key] = min(suspects.get(key, (smaller, place)), (smaller, place))
        return keys

    for together in claims.broken.values():
        left = suspect(together, len(together))
        deaths.update(left if len(together) == 1 else ())
    names = (claims.opened.keys() | claims.newest.keys() | claims.ended.keys()) - claims.closed | claims.died.keys()
    for one in sorted(names - {session}):
        how = None if one in claims.died else claims.ended.get(one)
        if how == OUTSIDE:
            continue
        size, keys = (0, []) if how == BETWEEN else claims.open_claim(one)
        left = suspect(keys, size)
        if claims.may_live(one, openings, now):
            continue
        judged += one not in claims.closed
        at_random += not left and one not in claims.closed
        if size == 1:
            walls = claims.died.get(one, {})
            # an item that met the wall may end in a longer session
            deaths.update(key for key in left if not walls.get(key) or walls[key] >= _AS_LONG * limit)
    aside = {key: n for key, n in deaths.items() if n >= _needed(at_random, judged - n)}
    return Blame(deaths, suspects, aside)


def aside_words(aside: dict[str, int]) -> str:
    """Return which items were set aside and why."""
    named = [f"{key} (its machine died {n} times)" for key, n in sorted(aside.items())]
    return listed(named)


def _needed(at_random: int, others: int) -> int:
    """Return the number of deaths that sets an item aside.

    Parameters
    ----------
    at_random : int
        Sessions that died for no item's reason.
    others : int
        Sessions that did not die in the item.
    """
    if not at_random:
        return DEATHS
    if at_random >= others:
        return _MOST_DEATHS
    return min(_MOST_DEATHS, max(DEATHS, math.ceil(math.log(_CHANCE) / math.log(at_random / others))))
