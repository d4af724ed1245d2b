"""What an item loop works with: ledger, uploads, budget, and a function that prints.

Each session creates one and passes it to the items, which therefore need not know the session.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.claiming import Claiming
from nbkit.runtime.items.naming import OutputNames
from nbkit.runtime.items.watching import Watch
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.manifest import Manifest
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.ledger.records import fault_of, version_of
from nbkit.runtime.ledger.rows import keeping
from nbkit.runtime.store.address import hide_in
from nbkit.runtime.words import counted, listed


@dataclass(frozen=True)
class ItemLoop:
    """What the items of one session share.

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
    store : str
        URL of the store, for messages.
    claiming : Claiming
        Tells the store which items come next.
    watch : Watch
        Interrupts items that hang.
    names : OutputNames
        Names that belong to the items of the manifest.
    backwards : bool
        Whether to begin with the last item, because another session is at work from the first.
    """

    ledger: Ledger
    outbox: Outbox
    budget: Budget
    say: Callable[[str], None]
    journal: Callable[..., None]
    store: str
    claiming: Claiming
    watch: Watch
    names: OutputNames = field(default_factory=lambda: OutputNames(""))
    backwards: bool = False

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

    def meet_wall(self, key: str) -> None:
        """Record that an item was still in work at the wall."""
        self.budget.request_stop("wall")
        if not self.budget.signalled:  # else it is no fault of the item's
            limit = round(self.budget.limit or 0.0, 3)
            self.ledger.note({"e": "died", "k": key, "of": self.ledger.session, "wall": limit})
        self.ledger.rest()

    def use_settings(self, settings: Mapping[str, Any]) -> None:
        """Note what the results depend on.

        Raises
        ------
        UsageError
            If items of this phase are in the store that were computed with other settings.
        """
        try:
            wanted: dict[str, Any] = hide_in(json.loads(json.dumps(settings, sort_keys=True, default=str)), "")
            fault = fault_of({"e": "settings", "t": 0.0, "settings": wanted}, self.ledger.slug)
        except (TypeError, ValueError, RecursionError) as error:
            fault = str(error) or "nested too deeply"
        if fault:
            raise UsageError(
                f"settings= of {self.ledger.slug} cannot be recorded: {fault}. Allowed are names (text) with numbers, "
                "text, lists and dicts of them. Nothing was begun."
            )
        state = self.ledger.state
        for other in sorted(state.made_with - {version_of(wanted)}):
            if hide_in(state.settings.get(other), "") == wanted:
                continue  # of a version that recorded what an address holds
            differs = _differences(state.settings[other], wanted) if other in state.settings else "which ones is lost"
            raise UsageError(
                f"Items of {self.ledger.slug} in {self.store} were computed with other settings: {differs}. Set them "
                "back, or use another store. Nothing was changed."
            )
        self.ledger.use_settings(wanted)

    def use_rows(self, manifest: Manifest, accept: bool, redo: bool) -> None:
        """Compare the rows of done items with what they were done with.

        Parameters
        ----------
        manifest : Manifest
            Of this session.
        accept : bool
            True to keep the outputs of items whose rows have changed, now and in later sessions.
        redo : bool
            True to make such items pending.

        Raises
        ------
        UsageError
            If rows have changed and neither is True, or both are.
        """
        if accept and redo:
            raise UsageError("Give one of accept_changes and redo_changed, not both. Nothing was begun.")
        state, ledger = self.ledger.state, self.ledger
        digests = list(manifest.digests()) if state.rows.made else []
        changed = state.rows.changed(manifest.keys, digests, ledger.is_done)
        moved = state.rows.moved(manifest.keys, digests, ledger.is_done)
        if moved and not accept and not redo:
            now = ", ".join(manifest.paths(next(iter(moved))))
            self.say(
                f"The files of {counted(len(moved), 'done item')} lay in another folder when they were done "
                f"({listed(list(moved))}; now {now}). They are taken for the same files in another place. "
                "If they are not, redo_changed=True does these items again; accept_changes=True ends this note."
            )
        changed |= moved if accept or redo else {}
        if not changed:
            return
        if not accept and not redo:
            raise UsageError(
                f"The row of {counted(len(changed), 'item')} of {ledger.slug} in {manifest.source} is another one than "
                f"when it was done: {listed(list(changed))} (columns now: {', '.join(manifest.columns)}). Set the rows "
                "back, keep the outputs (accept_changes=True), or do these items again (redo_changed=True). Nothing "
                "was begun."
            )
        if redo:
            self.say(f"{counted(len(changed), 'item')} with changed rows are done again: {listed(list(changed))}")
        for key in changed if redo else ():
            ledger.forget(key)
        for record in state.rounds.next_lost(changed) if redo else keeping(changed):
            ledger.note(record)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names)
