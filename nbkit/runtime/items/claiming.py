"""Claims of the item loop: which items come next is in the store before the first of them begins.

The machine's own mark of the item in work is lost with the machine. Claims are made in batches, so that they cost a few
percent of the work: the first holds one item, later ones as many as take about 30 times as long as making the claim.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from nbkit.ground.background import Background
from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.claims import OUTSIDE, Blame
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried

_SHORTEST, _LONGEST = 10.0, 120.0  # seconds of work in a claim
_SHARE = 30  # seconds of work for a second of claiming
_GROWTH = 8  # times as many items as in the claim before, at most: a first item may be unusual
_MOST = 20_000  # items in a claim
_PATIENCE = 10.0  # seconds that the work waits for a claim
_BEAT, _BEATS = 60.0, 0.1  # seconds between two signs of life, and the share of the time that the claim has lasted
_TICK = 0.25


class Claiming:
    """Make claims beside the loop, which waits until the store has them.

    A store that is slow or fails does not stop the work: it goes on after `_PATIENCE`, or at once where puts share
    commits, and the claim reaches the store with the next records. Until then, only this machine knows which item is in
    work.

    Parameters
    ----------
    ledger : Ledger
    store : Store
        Without retries; it is connected to once more.
    budget : Budget
    say : callable
        Prints one line.
    """

    def __init__(self, ledger: Ledger, store: Store, budget: Budget, say: Callable[[str], None]) -> None:
        self.ledger, self.budget, self.say = ledger, budget, say
        self.number = self._tried = 0
        self.seconds = 0.0
        self._raw = store
        # where all puts of a minute share a commit, the claim goes with it, and the work does not wait
        self._patience = 0.0 if hasattr(store, "put_together") else _PATIENCE
        self._store: Store | None = None
        self._open: tuple[str, ...] = ()
        self._since = self._beaten = 0.0
        self._busy: threading.Thread | None = None
        self._said = False

    def claim(self, keys: Iterable[str]) -> None:
        """Bring to the store that these items are about to begin, and that all others have ended."""
        self._open, self._since = tuple(keys), time.monotonic()
        self._beaten = self._since
        self.number += 1
        self.ledger.note({"e": "begun", "n": self.number, "k": list(self._open)})
        if not self._open:
            return  # the next records bring it
        began = time.monotonic()
        while self._tried < self.number and self.budget.stop_reason is None:
            if self._busy is None or not self._busy.is_alive():
                self._busy = Background(self._bring, self.number, name="claiming")
                self._busy.start()
            left = min(self._patience - (time.monotonic() - began), self.budget.left())
            if left <= 0:
                if self._patience and not self._said:
                    self._said = True
                    self.say(
                        "The store takes long to record which item comes next; work goes on. If this machine goes down "
                        "with an item, the next session may begin with that item again."
                    )
                break
            self._busy.join(min(_TICK, left))
        self.seconds = time.monotonic() - began

    def _bring(self, number: int) -> None:
        try:
            if self._store is None:
                self._store = Retried(self._raw.connect(), tries=3, time_left=self.budget.left)
            self.ledger.flush(self._store, merge=False)
        except (NbkitError, OSError, sqlite3.Error, MemoryError):
            pass  # the outbox flushes again soon, and says what is wrong with the store
        finally:
            self._tried = number

    def release(self) -> None:
        """Record that no item is in work."""
        if self._open and not self.ledger.released:
            with contextlib.suppress(NbkitError):  # on a full disk the items stay suspects, which only delays them
                self.claim(())

    def broke(self, keys: Iterable[str]) -> None:
        """Record that a worker died with one of these items."""
        self.number += 1
        self.ledger.note({"e": "broke", "n": self.number, "k": list(keys)})

    def beat(self) -> None:
        """Record now and then that an item which is alone in its claim is still in work, for parallel sessions."""
        since, now = self._since, time.monotonic()
        if len(self._open) == 1 and now - self._beaten > max(_BEAT, _BEATS * (now - since)):
            self._beaten = now
            self.ledger.note({"e": "begun", "n": self.number, "k": list(self._open)})

    def batches(self, positions: Iterator[int], keys: list[str], blame: Blame) -> Iterator[list[int]]:
        """Yield positions of items that one claim may hold; its size follows the time until the next is asked for."""
        size, following = 1, next(positions, None)
        while following is not None:
            batch, most = [following], min(size, blame.claim_size(keys[following]))
            following = next(positions, None)
            while following is not None and len(batch) < min(most, blame.claim_size(keys[following])):
                batch.append(following)
                following = next(positions, None)
            began = time.monotonic()
            yield batch
            size = self._size(len(batch), time.monotonic() - began - self.seconds)

    def _size(self, last: int, seconds: float) -> int:
        wanted = min(_LONGEST, max(_SHORTEST, _SHARE * self.seconds))
        return max(1, min(_MOST, _GROWTH * last, int(wanted * last / max(seconds, 1e-9))))


def spare(ledger: Ledger, sessions: Iterable[str]) -> None:
    """Record of sessions that were killed from outside that no item is to blame for it."""
    claims = ledger.state.claims
    for session in sessions:
        if session in claims.opened and session not in claims.closed and claims.ended.get(session) != OUTSIDE:
            ledger.note({"e": "ended", "of": session, "how": OUTSIDE})
