"""The end of a session: the last uploads, the last records, the closing card.

Closing waits for the uploads until the time limit and names what is not in the store. A process that ends without
closing its session still uploads for some seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from nbkit.ground.background import Background
from nbkit.runtime.card import CardFacts, closing_card
from nbkit.runtime.cells.shown import show_card
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.ledger.records import MISTAKE, REFUSED
from nbkit.runtime.ledger.segments import MERGED
from nbkit.runtime.ledger.survival import bring_back, lose_outputs
from nbkit.runtime.opened import closed, shut
from nbkit.runtime.results.overtime import Overtime

if TYPE_CHECKING:
    from nbkit.runtime.budget import Budget
    from nbkit.runtime.items.loop import ItemLoop
    from nbkit.runtime.items.working import Wanted
    from nbkit.runtime.ledger.ledger import Ledger
    from nbkit.runtime.ledger.outbox import Outbox
    from nbkit.runtime.ledger.records import Record
    from nbkit.runtime.ledger.workspace import Workspace
    from nbkit.runtime.signals import StopSignals
    from nbkit.runtime.store.protocol import Store

_WORK_LEFT = 3  # exit code
_LEAVING = 20.0  # seconds of uploads when a process ends without closing its session


def expect_closing(budget: Budget, sessions: Iterable[Record]) -> None:
    """Reserve for the cells after the work, and for closing, what they took in the slowest of the last sessions."""
    closes = [events["close"] for events in sessions if "close" in events][-3:]  # the machine may be busy still
    for kind, name in (("close", "ending"), ("closing", "closing")):
        if closes:
            budget.measured(kind, max(close.get(name, 0.0) for close in closes))


class Closing:
    """The part of a session that is about its end."""

    slug: str
    store: Store
    budget: Budget
    ledger: Ledger
    outbox: Outbox
    say: Callable[[str], None]
    _loop: ItemLoop
    _raw_store: Store
    left: Callable[[], tuple[int, int]]
    journal: Callable[..., None]
    _facts: Callable[..., CardFacts]
    _wanted: Wanted
    _undone: str | None
    _steps: dict[str, Any]
    _work_ended: float
    _began: float
    _signals: StopSignals
    _workspace: Workspace
    _closed: bool
    _pid: int
    _fitted: bool
    _at_work: bool

    @cached_property
    def _overtime(self) -> Overtime:
        return Overtime(self.budget, self.say, self.close)

    def _end_work(self) -> None:
        """Record that the work has ended: what follows counts against the wall as well."""
        self._work_ended, self._at_work = time.monotonic(), False
        self._overtime.begin()

    def _stop_for_signal(self, name: str) -> None:
        """Stop the work at its next safe point; a cell outside of the work, which has none, ends in time as well."""
        self.budget.stop_for_signal(name)
        if name != "SIGINT" and not self._at_work and not self._closed:
            self._overtime.begin()

    def close(self) -> dict[str, Any]:
        """Finish the uploads in the time that is left, and print what was done and what is left.

        Returns
        -------
        summary : dict
            ``complete``, ``done``, ``left``, ``failed``, ``reason``, ``not_stored`` and ``exit``, the exit code.
        """
        if self._closed:
            raise closed(self.slug)
        began = time.monotonic()
        self._overtime.stop()
        self._at_work = True  # a signal meanwhile ends no cell: closing looks at the wall itself
        # the last records go to the store after the last uploads; a signal meanwhile brings the wall near
        seconds = self.budget.estimate("flush") or self.budget.estimate("upload")
        kept = min(max(0.5, 2 * seconds), 0.5 * max(0.0, self.budget.wall()))
        waiting, fault = self._last_uploads(kept)
        if fault is None and self.budget.wall() > 0:
            fault = self._look_after()
        left, failed = self.left()
        # a training that its patience has ended is complete with fewer steps
        ended = self._steps.get("reason") == "complete"
        steps_left = 0 if ended else max(0, self._steps.get("max_steps", 0) - self._steps.get("step", 0))
        complete = not left and not steps_left and not waiting and not fault and not self._overtime.cut
        complete = complete and self._undone is None
        unfinished = "wall" if waiting and self.budget.wall() <= max(kept, self.budget.reserve) else "left"
        cut = "wall" if self._overtime.cut else None
        refused = None if self._undone != REFUSED else MISTAKE if self._counts() else REFUSED
        reason = self.budget.stop_reason or cut or refused or (None if self._undone else self._steps.get("reason"))
        reason = reason or ("complete" if complete else unfinished)
        code = UsageError.exit_code if reason == refused else _WORK_LEFT if not complete else 1 if failed else 0
        summary: dict[str, Any] = {
            "complete": complete, "done": len(self.ledger.state.done), "left": left, "failed": failed, **self._steps,
            "reason": reason, "not_stored": waiting, "exit": code,
        }  # fmt: skip
        try:
            ending = round(time.monotonic() - self._work_ended, 2)
            lasted = round(time.monotonic() - self._began, 3)  # by no clock that can be set
            row = {k: v for k, v in summary.items() if k not in ("not_stored", "chosen")}
            times = {"ending": ending, "closing": round(time.monotonic() - began, 2), "lasted": lasted}
            self.ledger.note({"e": "close", **times, "of": len(self._wanted)} | row)
            self.ledger.close()
        except (NbkitError, OSError, sqlite3.Error) as error:
            fault = str(error)
            summary |= {"complete": False, "exit": _WORK_LEFT}
        if summary["complete"] and self.budget.wall() > 0:
            self._tidy()
        self._signals.restore()
        self.ledger.release()
        self._workspace.release()
        self._closed = True
        shut(self)
        atexit.unregister(self._leave)
        show_card(closing_card(self._facts(), summary, fault))
        self.journal("close", **{k: v for k, v in summary.items() if k != "not_stored"}, waiting=len(waiting))
        return summary

    def _last_uploads(self, kept: float) -> tuple[list[str], str | None]:
        """Return the names of files that are not in the store, `kept` seconds before the wall, and why if unknown."""
        try:
            waiting = self.outbox.drain(lambda: self.budget.wall() - kept)
        except (NbkitError, sqlite3.Error) as error:
            self.outbox.close(kept)
            return [], str(error)
        if self.outbox.close(kept) and waiting:
            self.say(
                "Uploads had not ended when the session's time was up, and were left. The next session sends them."
            )
        return self.outbox.waiting() if waiting else waiting, None

    def _look_after(self) -> str | None:
        """Bring back what the store lost during this session; return why that was not possible."""
        try:
            bring_back(self.ledger, self.store, self.outbox.sent, self.say)
            if self.outbox.confirmed and not self.left()[0]:  # before the phase is called complete
                lose_outputs(self.ledger, self.store, self.outbox.confirmed, self.say)
        except (NbkitError, OSError, sqlite3.Error) as error:
            return f"Whether the store still has what it confirmed is not known: {error}"
        return None

    def _counts(self) -> bool:
        """Return whether this session did more than a mistake before its work, which is no session."""
        return bool(self._wanted or self._fitted or self.outbox.sent or self.budget.stop_reason)

    def _tidy(self) -> None:
        """Remove what parallel sessions stored twice; all is in the store by now, so a fault costs nothing."""
        tidy: Callable[[str], None] = getattr(self.store, "tidy", lambda _: None)
        try:
            for folder in ("items", f"ledger/{MERGED}"):  # all else has one writer
                tidy(f"{self.slug}/{folder}/")
        except (NbkitError, OSError) as error:
            self.say(f"Some files may be in {self.store.url} twice; the next session that ends looks again: {error}")

    def _leave(self) -> None:
        """Upload as much as possible when the process ends without `close`."""
        if self._closed or os.getpid() != self._pid:
            return
        if self._overtime.cut:  # a script that ended at the wall, after its work
            self.close()
            return
        self._overtime.stop()
        self._closed = True
        shut(self)
        self._signals.restore()
        try:
            self.budget.end_within(_LEAVING)
            self.outbox.drain(self.budget.wall)
            self.outbox.close()
            self.ledger.interrupted()
            if not self._counts():
                self.ledger.note({"e": "close", "reason": REFUSED})  # a mistake before the work: no session
            self.ledger.flush()
        except (NbkitError, OSError, sqlite3.Error) as error:
            print(f"[nbkit] The last records could not be stored: {error}")
        self.ledger.release()
        self._workspace.release()
        atexit.unregister(self._leave)

    def _give_up(self, key: str) -> None:
        """End this process at the wall, though an item is in work that cannot be interrupted."""
        if self._closed:
            return
        self.say(
            f"Item {key} does not end and cannot be interrupted, and the time limit is reached. This process ends now; "
            "everything recorded before is safe. Run this notebook again: it continues from here."
        )
        self._loop.meet_wall(key)
        saving = Background(self._save_records, name="leaving")
        saving.start()
        saving.join(min(_LEAVING, max(1.0, self.budget.wall())))
        self.journal("left", key=key)
        os._exit(_WORK_LEFT)

    def _save_records(self) -> None:
        with contextlib.suppress(NbkitError, OSError):  # what is not stored stays on this machine's disk
            self.ledger.flush(self._raw_store.connect(), merge=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._leave()
