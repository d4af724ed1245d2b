"""What an item loop works with: the ledger, the uploads, the clock, and a voice.

A session makes one and hands it to the items, whether they are done here or by an executor, so that neither has to
know the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nbkit.runtime.budget import Budget
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.outbox import Outbox


@dataclass(frozen=True)
class ItemLoop:
    """Hold what the items of one session share.

    Attributes
    ----------
    ledger : Ledger
        Records what happened to each item.
    outbox : Outbox
        Brings the outputs to the store.
    budget : Budget
        Knows how much of the session is left.
    say : callable
        Prints one line.
    journal : callable
        Appends an event for the rehearsal that runs this session.
    """

    ledger: Ledger
    outbox: Outbox
    budget: Budget
    say: Callable[[str], None]
    journal: Callable[..., None]

    def may_go_on(self, kind: str | None) -> bool:
        """Return whether another piece of work of this kind still ends before the wall.

        Parameters
        ----------
        kind : str or None
            What the budget measured, such as ``"item"``; None asks only whether any time is left.
        """
        if self.outbox.refused is not None:
            self.budget.request_stop("store")
            return False
        return self.budget.fits(self.budget.estimate(kind) if kind else 0.0)
