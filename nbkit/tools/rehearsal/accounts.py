"""Accounts of a rehearsal: work done, lost and done twice, and goodput.

Everything is counted from the sessions' journals, which survive the kills, and from what the store contained after each
session.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.journal import Event, of_kind
from nbkit.runtime.words import counted, show_duration
from nbkit.tools.table import text_table


@dataclass
class RehearsedSession:
    """Record of one rehearsed session.

    Attributes
    ----------
    number : int
    began, ended : float
        Start and end of its process in seconds since 1970.
    limit : float
        Length that the session was given, in seconds.
    ending : str
        ``complete``, ``stopped`` (by itself, with work left), ``killed``, ``failed``, ``overran`` (killed because it
        did not stop at its limit) or ``silent`` (killed because it never opened a session).
    events : list of dict
        Its journal.
    stored_items : set of str
        Keys of the items that were done in the store when the session ended.
    stored_step : int
        Step of the newest checkpoint in the store when the session ended.
    poisoned : bool
        Whether the item that the rehearsal poisoned took it down.
    """

    number: int
    began: float
    ended: float = 0.0
    limit: float = 0.0
    ending: str = ""
    exit_code: int | None = None
    processes_killed: int = 0
    events: list[Event] = field(default_factory=list)
    stored_items: set[str] = field(default_factory=set)
    stored_step: int = 0
    poisoned: bool = False

    @property
    def opened(self) -> Event | None:
        """First ``open`` event of the journal; None if there is none."""
        return next(iter(of_kind(self.events, "open")), None)

    @property
    def closed(self) -> Event | None:
        """Last ``close`` event of the journal; None if there is none."""
        return next(iter(reversed(of_kind(self.events, "close"))), None)

    @property
    def startup(self) -> float:
        """Seconds from the start of the process to the opening of the session."""
        return (self.opened["t"] if self.opened else self.ended) - self.began

    @property
    def length(self) -> float:
        """Seconds from the opening of the session to its close or kill."""
        end = self.closed["t"] if self.closed else self.ended
        return end - self.opened["t"] if self.opened else 0.0

    @property
    def items(self) -> list[str]:
        """Keys of the finished items in their order."""
        return [event["key"] for event in of_kind(self.events, "item")]

    @property
    def steps(self) -> list[int]:
        """Training steps in their order."""
        return [event["step"] for event in of_kind(self.events, "step")]

    @property
    def first_work(self) -> float | None:
        """Seconds from opening to the end of the first item or step; None if there was none."""
        firsts = [event["t"] for event in self.events if event["e"] in ("item", "step")]
        return firsts[0] - self.opened["t"] if firsts and self.opened else None

    @property
    def to_work(self) -> float | None:
        """Seconds of the session before its first item or step began; None if none began."""
        first = next((event["t"] for event in self.events if event["e"] in ("begin", "ready", "item", "step")), None)
        if first is None or self.opened is None:
            return None
        # on a host whose clock starts with the process, part of the session is over before it opens
        return self.opened.get("elapsed", 0.0) + first - self.opened["t"]

    @property
    def ending_s(self) -> float | None:
        """Seconds from the last item or step to the close; None if it did not close or did no work."""
        work = [event["t"] for event in self.events if event["e"] in ("item", "step")]
        return self.closed["t"] - work[-1] if work and self.closed else None

    @property
    def lost_items(self) -> list[str]:
        """Items finished in this session that were not in the store at its end."""
        return [key for key in dict.fromkeys(self.items) if key not in self.stored_items]

    @property
    def lost_steps(self) -> int:
        """Number of steps after the newest checkpoint in the store."""
        return max(0, max(self.steps, default=0) - self.stored_step)

    def row(self) -> dict[str, Any]:
        """Return the values of this session for the report."""
        opened = self.opened or {}
        return {
            "number": self.number, "session": opened.get("session"), "startup_s": round(self.startup, 3),
            "length_s": round(self.length, 3), "limit_s": self.limit, "ended": self.ending,
            "reason": (self.closed or {}).get("reason"), "exit": self.exit_code,
            "from_items": opened.get("done"), "from_step": opened.get("step"), "items": len(self.items),
            "steps": len(self.steps), "lost_items": len(self.lost_items), "lost_steps": self.lost_steps,
            "stored_items": len(self.stored_items), "stored_step": self.stored_step,
            "first_work_s": None if self.first_work is None else round(self.first_work, 3),
            "to_work_s": None if self.to_work is None else round(self.to_work, 3),
        }  # fmt: skip


def work_seconds(session: RehearsedSession) -> list[tuple[str | int, float]]:
    """Return (item or step, seconds) for each item and step of a session, without the time that saves took.

    A step is timed from the end of the step before it. The first step has none before it, so it gets the median of the
    others.
    """
    found: list[tuple[str | int, float]] = []
    before: float | None = None
    stall = 0.0
    gaps: list[float] = []
    for event in session.events:
        if event["e"] == "item":
            found.append((event["key"], float(event.get("s", 0.0))))
        elif event["e"] == "save":
            stall += float(event.get("stall_s", 0.0))
        elif event["e"] == "step":
            gap = None if before is None else max(0.0, event["t"] - before - stall)
            gaps += [] if gap is None else [gap]
            found.append((event["step"], -1.0 if gap is None else gap))
            before, stall = event["t"], 0.0
    usual = statistics.median(gaps) if gaps else 0.0
    return [(what, usual if seconds < 0 else seconds) for what, seconds in found]


def account(sessions: list[RehearsedSession]) -> dict[str, Any]:
    """Sum up the sessions of one notebook.

    Returns
    -------
    sums : dict
        Counts and seconds. ``goodput`` is the time of useful items and steps (each counted once) divided by the time
        from opening to the end, both summed over the sessions; None if there was no work.
    """
    useful, once = 0.0, set()
    for session in sessions:
        for what, seconds in work_seconds(session):
            if what not in once:
                once.add(what)
                useful += seconds
    items = [key for session in sessions for key in session.items]
    steps = [step for session in sessions for step in session.steps]
    length = sum(session.length for session in sessions)
    killed = [session for session in sessions if session.ending in ("killed", "silent", "overran")]
    return {
        "sessions": len(sessions),
        "kills": len(killed),
        "planned_stops": sum(session.ending == "stopped" for session in sessions),
        "items": len(set(items)),
        "steps": len(set(steps)),
        "lost_items": sum(len(session.lost_items) for session in killed),
        "lost_steps": sum(session.lost_steps for session in killed),
        "twice_items": len(items) - len(set(items)),
        "twice_steps": len(steps) - len(set(steps)),
        "wall_s": round(sum(session.ended - session.began for session in sessions), 3),
        "startup_s": round(sum(session.startup for session in sessions), 3),
        "from_opening_s": round(length, 3),
        "useful_s": round(useful, 3),
        "goodput": round(useful / length, 4) if length and once else None,
    }


def report(document: dict[str, Any]) -> str:
    """Return the report of one notebook's rehearsal as text."""
    sums, rows = document["sums"], document["sessions"]
    if not rows:
        return f"{document['notebook']}: {document['reason']}"
    state = "complete" if document["complete"] else f"not complete: {document['reason']}"
    many = f"{counted(sums['sessions'], 'session')}, {sums['kills']} killed"
    header = ("session", "start-up", "to first work", "length", "ended", "resumed from", "work", "lost by the kill")
    table = text_table(map(_cells, rows), header, numbers=(0,), indent=2)
    lines = [f"{document['notebook']}: {state.rstrip('.')}. {many}", table]
    if sums["items"] or sums["steps"]:
        lost = _amount(sums["lost_items"], sums["lost_steps"]) or "nothing"
        twice = _amount(sums["twice_items"], sums["twice_steps"]) or "nothing"
        lines.append(f"  lost: {lost}; done twice: {twice}; of {_amount(sums['items'], sums['steps'])}")
        lines.append(
            f"  goodput: {sums['goodput']:.2f} ({sums['useful_s']:.1f} s of useful work in "
            f"{sums['from_opening_s']:.1f} s after opening; {sums['startup_s']:.1f} s of start-up before it)"
        )
    return "\n".join(lines)


def not_begun(notebook: str, lacking: list[str]) -> dict[str, Any]:
    """Return the report of a notebook that was skipped because the phases it needs are not complete."""
    slug = notebook.removesuffix(".ipynb").partition("_")[2]
    reason = f"not started, because it needs {', '.join(lacking)}"
    empty = {"failed_items": 0, "sums": account([]), "sessions": []}
    return {"notebook": notebook, "slug": slug, "complete": False, "reason": reason, **empty}


def summary(documents: list[dict[str, Any]]) -> str:
    """Return the reports of several notebooks as a table with their sums, one line per notebook."""
    header = ("notebook", "state", "sessions", "killed", "lost by kills", "goodput", "time")
    rows = []
    for document in documents:
        sums = document["sums"]
        state = "complete" if document["complete"] else "NOT COMPLETE"
        state = f"{document['failed_items']} items FAILED" if document["failed_items"] else state
        goodput = "-" if sums["goodput"] is None else f"{sums['goodput']:.2f}"
        lost = _amount(sums["lost_items"], sums["lost_steps"]) or "nothing"
        counts = (str(sums["sessions"]), str(sums["kills"]), lost, goodput, show_duration(sums["wall_s"]))
        rows.append((document["notebook"].removesuffix(".ipynb"), state, *counts))
    lines = [text_table(rows, header, numbers=(2, 3, 5))]
    complete = sum(document["complete"] for document in documents)
    sums = [document["sums"] for document in documents]
    many = f"{counted(sum(one['sessions'] for one in sums), 'session')}, {sum(one['kills'] for one in sums)} killed"
    whole = show_duration(sum(one["wall_s"] for one in sums))
    run = [document for document in documents if document["sums"]["sessions"]]
    unharmed = [document["notebook"].removesuffix(".ipynb") for document in run if not document["sums"]["kills"]]
    lines.append(f"{complete} of {len(documents)} complete; {many}; {whole}")
    if unharmed:
        lines.append(f"without a kill: {', '.join(unharmed)}")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    resumed = [f"step {row['from_step']}"] if row["from_step"] else []
    resumed += [counted(row["from_items"], "item")] if row["from_items"] else []
    ended = row["ended"] + (f" ({row['reason']})" if row["reason"] and row["ended"] == "stopped" else "")
    lost = _amount(row["lost_items"], row["lost_steps"]) if row["ended"] in ("killed", "overran") else ""
    return (
        str(row["number"]), show_duration(row["startup_s"]),
        "-" if row["to_work_s"] is None else show_duration(row["to_work_s"]), show_duration(row["length_s"]), ended,
        ", ".join(resumed) or "the start", _amount(row["items"], row["steps"]) or "-",
        lost or ("nothing" if row["ended"] in ("killed", "overran") else "-"),
    )  # fmt: skip


def _amount(items: int, steps: int) -> str:
    return ", ".join(counted(n, what) for n, what in ((items, "item"), (steps, "step")) if n)
