"""Status: what every phase has done, what is left, and what that still takes, read from the store alone.

Nothing is written. What the store cannot tell is shown as unknown, not guessed: work of a session that runs now counts
from its last flushed segment or checkpoint.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbkit.runtime.durations import show_duration
from nbkit.runtime.errors import DamagedError
from nbkit.runtime.manifest import manifest_folder, read_manifest
from nbkit.runtime.names import check_slug
from nbkit.runtime.phases import Phase, load_phases
from nbkit.runtime.receipts import Receipt, read_receipt, step_of
from nbkit.runtime.running import store_address
from nbkit.runtime.segments import Fold, Record, fold_store
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried

QUOTA_HOURS = 30.0  # GPU hours that Kaggle gives a week
_SESSION_HOURS = 9.0
_RUN = re.compile(r"run-(\d+)/")


class TimedFold(Fold):
    """Add up how long items took, beside their state; an item read twice does not change the mean by much."""

    seconds: float = 0.0
    timed: int = 0

    def add(self, session: str, numbered: Iterable[tuple[int | None, Record]]) -> None:
        super().add(session, self._timing(numbered))

    def _timing(self, numbered: Iterable[tuple[int | None, Record]]) -> Iterator[tuple[int | None, Record]]:
        for number, record in numbered:
            if record.get("e") == "done" and "s" in record:
                self.seconds += float(record["s"])
                self.timed += 1
            yield number, record


@dataclass(frozen=True)
class PhaseStatus:
    """Say where a phase stands.

    Attributes
    ----------
    state : str
        ``not begun``, ``complete``, ``complete, some failed`` or ``work left``.
    done, failed : int
        Items; those that failed and were not done since.
    left : int or None
        Items; None where no session and no manifest tells.
    step, max_steps : int
        Of training; 0 where there is none.
    rate : float or None
        Items or steps an hour of work.
    sessions, killed : int
        Sessions so far, and those of them without a close: killed, or running now.
    hours_left, sessions_left, quota_weeks : float or None
        What the rest takes at this rate.
    checkpoint : str or None
        Name of the newest checkpoint, `checkpoint_age` seconds old.
    """

    slug: str
    title: str
    state: str
    done: int = 0
    left: int | None = None
    failed: int = 0
    step: int = 0
    max_steps: int = 0
    rate: float | None = None
    sessions: int = 0
    killed: int = 0
    hours_left: float | None = None
    sessions_left: int | None = None
    quota_weeks: float | None = None
    checkpoint: str | None = None
    checkpoint_age: float | None = None
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)


def read_status(store: str | None = None, slugs: list[str] | None = None) -> list[PhaseStatus]:
    """Read where phases stand.

    Parameters
    ----------
    store : str or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : list of str or None
        Phases; all of the map by default. A slug beside the map is read too.

    Returns
    -------
    rows : list of PhaseStatus
    """
    known = {phase.slug: phase for phase in load_phases()}
    wanted = [check_slug(slug) for slug in slugs] if slugs else list(known)
    opened = Retried(open_store(store_address(store)))
    with tempfile.TemporaryDirectory(prefix="nbkit-status-") as folder:
        return [read_phase(opened, slug, known.get(slug), Path(folder)) for slug in wanted]


def read_phase(store: Store, slug: str, phase: Phase | None, cache: Path) -> PhaseStatus:
    """Read where one phase stands."""
    fold = fold_store(store, slug, cache, TimedFold())
    receipts, notes = newest_receipts(store, slug, cache)
    newest = receipts[0] if receipts else None
    closes = [record["close"] for record in fold.sessions.values() if "close" in record]
    last: Record = max(closes, key=lambda record: record.get("t", 0.0), default={})
    failed = sum(key not in fold.done for key in fold.failures)
    left = _items_left(fold, last, slug, phase, failed)
    step, max_steps = (newest.step, newest.max_steps) if newest else (0, 0)
    hours, rate = _outlook(fold, left, receipts)
    session_hours = phase.session_hours if phase else _SESSION_HOURS
    on_gpu = phase is not None and phase.accelerator == "gpu"
    return PhaseStatus(
        slug=slug,
        title=phase.title if phase else "",
        state=_state(fold, left, failed, newest, last),
        done=len(fold.done),
        left=left,
        failed=failed,
        step=step,
        max_steps=max_steps,
        rate=rate,
        sessions=len(fold.sessions),
        killed=sum("close" not in record for record in fold.sessions.values()),
        hours_left=hours,
        sessions_left=None if hours is None else math.ceil(hours / session_hours),
        quota_weeks=hours / QUOTA_HOURS if hours is not None and on_gpu else None,
        checkpoint=newest.file if newest else None,
        checkpoint_age=time.time() - newest.time if newest else None,
        notes=(*notes, *(f"{name}: {words}" for name, words in fold.damaged.items())),
    )


def newest_receipts(store: Store, slug: str, cache: Path) -> tuple[list[Receipt], list[str]]:
    """Give the receipts of a phase's newest run, newest first, and words on those that are damaged."""
    names = newest_run(store, slug)
    receipts, notes = [], []
    for name in sorted((n for n in names if n.endswith(".json")), reverse=True):
        path = cache / "receipts" / name
        try:
            store.get(name, path)
            receipts.append(read_receipt(path))
        except FileNotFoundError:
            continue  # pruned between listing and reading
        except DamagedError as error:
            notes.append(str(error).replace(str(path), name))
    return receipts, notes


def newest_run(store: Store, slug: str) -> list[str]:
    """Give the names of checkpoints and receipts of a phase's newest run."""
    prefix = f"{slug}/checkpoints/"
    runs: dict[int, list[str]] = {}
    for stat in store.list(prefix):
        run = _RUN.match(stat.name, len(prefix))
        if step_of(stat.name.rpartition("/")[2]) is not None:
            runs.setdefault(int(run[1]) if run else 1, []).append(stat.name)
    return runs[max(runs)] if runs else []


def newest_step(store: Store, slug: str) -> int:
    """Give the step of the newest checkpoint whose receipt is in the store; 0 where there is none."""
    steps = [step_of(name.rpartition("/")[2]) for name in newest_run(store, slug) if name.endswith(".json")]
    return max(filter(None, steps), default=0)


def _items_left(fold: Fold, last: Record, slug: str, phase: Phase | None, failed: int) -> int | None:
    if last:
        return max(0, int(last.get("left", 0)) - (len(fold.done) - int(last.get("done", 0))))
    path = manifest_folder() / f"{slug}.tsv"
    if path.is_file():
        keys = read_manifest(path).keys
        return sum(key not in fold.done for key in keys) - failed
    return None if phase is None or phase.items else 0


def _outlook(fold: TimedFold, left: int | None, receipts: list[Receipt]) -> tuple[float | None, float | None]:
    """Give the hours that the rest takes, and items or steps an hour."""
    if receipts and receipts[0].max_steps:
        newest = receipts[0]
        pairs = [(newest.step - r.step, newest.time - r.time) for r in receipts[1:] if r.session == newest.session]
        steps, seconds = max(pairs, key=lambda pair: pair[1], default=(0, 0.0))
        rate = 3600.0 * steps / seconds if steps > 0 and seconds > 0 else None
        rest = 0 if newest.complete else max(0, newest.max_steps - newest.step)
        return (0.0 if not rest else rest / rate if rate else None), rate
    if fold.timed and fold.seconds > 0:
        rate = 3600.0 * fold.timed / fold.seconds
        return (None if left is None else left / rate), rate
    return (0.0 if left == 0 and fold.done else None), None


def _state(fold: Fold, left: int | None, failed: int, newest: Receipt | None, last: Record) -> str:
    if not fold.sessions and not fold.done and newest is None:
        return "not begun"
    if newest is not None and newest.max_steps:
        return "complete" if newest.complete or newest.step >= newest.max_steps else "work left"
    if left == 0 and last.get("complete", False):
        return "complete, some failed" if failed else "complete"
    return "work left"


def words(rows: list[PhaseStatus]) -> str:
    """Lay the phases out as a table for reading."""
    header = ("phase", "state", "done", "left", "failed", "rate", "sessions", "still takes", "newest checkpoint")
    lines = [header, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    laid = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*laid, *(f"note: {note}" for row in rows for note in row.notes)])


def _cells(row: PhaseStatus) -> tuple[str, ...]:
    training = row.max_steps > 0
    done = f"step {row.step}" if training else str(row.done)
    left = str(row.max_steps - row.step) if training else "?" if row.left is None else str(row.left)
    unit = "steps" if training else "items"
    rate = "-" if row.rate is None else f"{row.rate:,.0f} {unit}/h"
    sessions = f"{row.sessions}" + (f" ({row.killed} not closed)" if row.killed else "")
    if row.state == "not begun":
        done = left = sessions = "-"
    takes = "-"
    if row.hours_left:
        takes = f"{show_duration(3600 * row.hours_left)}, {row.sessions_left} session{'s' * (row.sessions_left != 1)}"
        takes += f", {row.quota_weeks:.1f} quota-weeks" if row.quota_weeks is not None else ""
    checkpoint = "-"
    if row.checkpoint_age is not None:
        checkpoint = f"step {row.step}, {show_duration(row.checkpoint_age)} old"
    return row.slug, row.state, done, left, str(row.failed), rate, sessions, takes, checkpoint
