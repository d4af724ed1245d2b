"""The status of phases as plain text.

A question mark stands for what is unknown, a dash for what does not apply.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from nbkit.runtime.words import counted, printable, show_duration
from nbkit.tools.status.past_sessions import PastSession
from nbkit.tools.status.status import PhaseStatus
from nbkit.tools.status.store_use import StoreUse
from nbkit.tools.table import text_table

HEADER = ("phase", "state", "done", "left", "failed", "rate", "sessions", "still takes", "checkpoint")
_SESSION_HEADER = ("session", "opened (UTC)", "ran", "items", "steps", "ended")


def words(rows: Sequence[PhaseStatus], use: StoreUse | None = None, history: bool = False) -> str:
    """Return a table of phases, with errors, damaged files and the store's use below it.

    Parameters
    ----------
    rows : sequence of PhaseStatus
    use : StoreUse or None
    history : bool
        Whether to add a table of each phase's sessions.
    """
    begun = [row for row in rows if row.state != "not begun"]
    idle = [row.slug for row in rows if row.state == "not begun"]
    lines = [text_table(map(cells, begun), HEADER)] if begun else ["No phase has begun in this store."]
    lines += textwrap.wrap(f"not begun: {', '.join(idle)}", 118, subsequent_indent="  ") if idle else []
    for row in rows:
        lines += shard_lines(row)
        lines += [f"open now: {row.slug}: {other}" for other in row.open_now]
        if row.error:
            lines.append(f"error: {row.slug}, {show_duration(row.error_age)} ago: {row.error}")
        if row.set_aside:
            lines.append(f"set aside: {row.slug}: {row.set_aside}; retry_failed=True tries again")
        lines += [f"note: {note}" for note in row.notes]
    lines += [line for line in (total(rows),) if line]
    if history:
        for row in rows:
            if row.past:
                goodput = f", goodput {row.goodput:.2f}" if row.goodput is not None else ""
                lines += ["", row.slug + goodput, text_table(map(session_cells, row.past), _SESSION_HEADER)]
    return printable("\n".join([*lines, *([use.words()] if use else [])]))


def cells(row: PhaseStatus) -> tuple[str, ...]:
    """Return the cells of one phase's row."""
    training = row.max_steps > 0
    done = f"step {row.step}" if training else str(row.done)
    left = str(row.max_steps - row.step) if training else "?" if row.left is None else str(row.left)
    unit = "steps" if training else "items"
    rate = "-" if row.rate is None else f"{row.rate:,.0f} {unit}/h"
    aside = [f"{row.killed} not closed"] * bool(row.killed) + [f"{len(row.open_now)} open now"] * bool(row.open_now)
    sessions = f"{row.sessions}" + (f" ({', '.join(aside)})" if aside else "")
    checkpoint = "-"
    if row.checkpoint_age is not None:
        checkpoint = f"{show_duration(row.checkpoint_age)} old"
    return row.slug, row.state, done, left, str(row.failed), rate, sessions, still_takes(row), checkpoint


def still_takes(row: PhaseStatus) -> str:
    """Return how long the rest of a phase takes, in words; a dash where nothing is left or known."""
    if not row.hours_left:
        return "-"
    takes = f"{show_duration(3600 * row.hours_left)}, {counted(row.sessions_left, 'session')}"
    return takes + (f", {row.quota_weeks:.1f} quota-weeks" if row.quota_weeks is not None else "")


def shard_lines(row: PhaseStatus) -> list[str]:
    """Return a line for each part of a manifest that parallel sessions share."""
    return [
        f"shard: {row.slug} {shard.shard}: {shard.done} done, {'?' if shard.left is None else shard.left} left, "
        f"{shard.failed} failed"
        for shard in row.shards
    ]


def total(rows: Sequence[PhaseStatus]) -> str:
    """Return how long all phases with a known rate still take together; empty where nothing is left or known."""
    known = [row for row in rows if row.hours_left]
    unknown = [row for row in rows if row.hours_left is None and row.state == "work left"]
    if not known:
        return ""
    weeks = sum(row.quota_weeks or 0.0 for row in known)
    text = f"together: {show_duration(3600 * sum(row.hours_left for row in known))}"
    text += f", {counted(sum(row.sessions_left for row in known), 'session')}"
    text += f", {weeks:.1f} quota-weeks of 30 GPU hours" if weeks else ""
    return text + (f"; not counted, no rate known: {', '.join(row.slug for row in unknown)}" if unknown else "")


def session_cells(past: PastSession) -> tuple[str, ...]:
    """Return the cells of one session's row."""
    opened = "?" if past.opened is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(past.opened))
    failed = f" ({past.failed} failed)" if past.failed else ""
    return (
        past.session + (f" {past.shard}" if past.shard else ""),
        opened,
        "?" if past.length is None else show_duration(past.length),
        f"{past.items}{failed}",
        steps_of(past),
        past.ended,
    )


def steps_of(past: PastSession) -> str:
    """Return the first and last step of a session's training."""
    if not past.from_step and not past.to_step:
        return "-"
    begin, end = ("?" if step is None else str(step) for step in (past.from_step, past.to_step))
    return f"{begin} to {end}"
