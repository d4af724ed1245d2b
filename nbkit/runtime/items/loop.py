"""What an item loop works with: ledger, uploads, budget, and a function that prints.

Each session creates one and passes it to the items, which therefore need not know the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.chosen import as_before, comparable, differences
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

HOW_TO_ACCEPT = "RESUME = 'accept' in the notebook, 'nbkit run --accept-changes', or accept_changes=True in code"


@dataclass(frozen=True)
class Chosen:
    """Settings as they are recorded, and versions of others whose outputs are kept beside theirs."""

    settings: dict[str, Any]
    beside: Sequence[str] = ()


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

    def check_settings(self, settings: Mapping[str, Any], accept: bool) -> Chosen:
        """Return what the results depend on, for `use_settings`.

        Parameters
        ----------
        settings : mapping
        accept : bool
            True to keep the outputs of items that were computed with other settings, now and in later sessions.

        Raises
        ------
        UsageError
            If they cannot be compared, or items of this phase are done that were computed with other settings.
        """
        state, slug = self.ledger.state, self.ledger.slug
        made_with = state.made_with
        before = hide_in(as_before(settings), "") if made_with else None
        if isinstance(before, dict) and any(self._is_made_with(other, before) for other in made_with):
            wanted, fault = before, None
        else:
            try:
                wanted = hide_in(comparable(settings), "")
                fault = fault_of({"e": "settings", "t": 0.0, "settings": wanted}, slug)
            except (TypeError, ValueError, RecursionError) as error:
                fault = str(error) or "nested too deeply"
        if fault:
            raise UsageError(
                f"settings= of {slug} cannot be recorded: {fault}. Allowed are names (text) with numbers, text, "
                "arrays, paths, dates, and lists, sets, dicts and dataclasses of them. Nothing was begun."
            )
        known = state.beside.get(version_of(wanted), set())
        others = sorted(one for one in made_with - known if not self._is_made_with(one, wanted))
        if not others:
            return Chosen(wanted)
        count = counted(len(set().union(*(state.made.keys[other] for other in others))), "item")
        old = state.settings.get(others[0])
        differ = "which ones is lost" if old is None else differences(old, wanted)
        if not accept:
            raise UsageError(
                f"Items of {slug} in {self.store} were computed with other settings ({count}): {differ}. Set them "
                f"back, use another store, or keep those outputs beside the new ones ({HOW_TO_ACCEPT}). Nothing was "
                "changed."
            )
        self.say(f"{count} of {slug} computed with other settings are kept beside those to come: {differ}")
        return Chosen(wanted, others)

    def _is_made_with(self, version: str, settings: dict[str, Any]) -> bool:
        """Return whether a version that items were made with is that of settings."""
        if version == version_of(settings):
            return True
        return bool(hide_in(self.ledger.state.settings.get(version), "") == settings)  # of before addresses were hidden

    def use_settings(self, chosen: Chosen) -> None:
        """Note what the results depend on from now on."""
        self.ledger.use_settings(chosen.settings, chosen.beside)

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
                f"back, keep the outputs ({HOW_TO_ACCEPT}), or do these items again (redo_changed=True). Nothing was "
                "begun."
            )
        if redo:
            self.say(f"{counted(len(changed), 'item')} with changed rows are done again: {listed(list(changed))}")
        for key in changed if redo else ():
            ledger.forget(key)
        for record in state.rounds.next_lost(changed) if redo else keeping(changed):
            ledger.note(record)
