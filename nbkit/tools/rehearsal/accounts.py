"""What a rehearsal's sessions come to: work done, lost and done twice, and goodput.

Everything is counted from the sessions' journals, which survive their kills, and from what the store held after each.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.journal import Event, of_kind
from nbkit.runtime.words import counted, show_duration


@dataclass
class Stay:
    """Keep what is known of one rehearsed session.

    Attributes
    ----------
    number : int
    began, ended : float
        Start and end of its process, seconds since 1970.
    limit : float
        Seconds that the session was told it has.
    ending : str
        ``complete``, ``stopped`` (by itself, work left), ``killed``, ``failed``, ``overran`` or ``silent`` (it never
        opened a session before it was killed).
    events : list of dict
        Its journal.
    stored_items : set of str
        Keys that the store held as done when it was over.
    stored_step : int
        Step of the newest checkpoint in the store then.
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

    @property
    def opened(self) -> Event | None:
        """Its first ``open`` event."""
        return next(iter(of_kind(self.events, "open")), None)

    @property
    def closed(self) -> Event | None:
        """Its last ``close`` event."""
        return next(iter(reversed(of_kind(self.events, "close"))), None)

    @property
    def startup(self) -> float:
        """Seconds from the process's start to the opened session."""
        return (self.opened["t"] if self.opened else self.ended) - self.began

    @property
    def length(self) -> float:
        """Seconds from the opened session to its close, or to its kill."""
        end = self.closed["t"] if self.closed else self.ended
        return end - self.opened["t"] if self.opened else 0.0

    @property
    def items(self) -> list[str]:
        """Keys of the items that it finished, in their order."""
        return [event["key"] for event in of_kind(self.events, "item")]

    @property
    def steps(self) -> list[int]:
        """Training steps that it took, in their order."""
        return [event["step"] for event in of_kind(self.events, "step")]

    @property
    def first_work(self) -> float | None:
        """Seconds from opening to the end of the first item or step; None where there was none."""
        firsts = [event["t"] for event in self.events if event["e"] in ("item", "step")]
        return firsts[0] - self.opened["t"] if firsts and self.opened else None

    @property
    def to_work(self) -> float | None:
        """Seconds of the session before its first item or step began; None where none did."""
        first = next((event["t"] for event in self.events if event["e"] in ("begin", "ready", "item", "step")), None)
        if first is None or self.opened is None:
            return None
        # of a host whose clock starts with the process, some was gone at the opening
        return self.opened.get("elapsed", 0.0) + first - self.opened["t"]

    @property
    def ending_s(self) -> float | None:
        """Seconds from its last item or step to its close; None where it did not close or did no work."""
        work = [event["t"] for event in self.events if event["e"] in ("item", "step")]
        return self.closed["t"] - work[-1] if work and self.closed else None

    @property
    def lost_items(self) -> list[str]:
        """Items finished here that the store did not have when the session was over."""
        return [key for key in dict.fromkeys(self.items) if key not in self.stored_items]

    @property
    def lost_steps(self) -> int:
        """Steps taken here beyond the newest checkpoint in the store."""
        return max(0, max(self.steps, default=0) - self.stored_step)

    def row(self) -> dict[str, Any]:
        """Return this session's line of the report."""
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


def work_seconds(stay: Stay) -> list[tuple[str | int, float]]:
    """Return each item and step of a session with the seconds that it took; a save's stall is no work.

    The first step has no step before it to count from, and takes the median of the others.
    """
    found: list[tuple[str | int, float]] = []
    before: float | None = None
    stall = 0.0
    gaps: list[float] = []
    for event in stay.events:
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


def account(stays: list[Stay]) -> dict[str, Any]:
    """Add the sessions of one notebook up.

    Returns
    -------
    sums : dict
        ``goodput`` is the seconds of items and steps that count (each once) over the seconds from opening, summed.
    """
    useful, once = 0.0, set()
    for stay in stays:
        for what, seconds in work_seconds(stay):
            if what not in once:
                once.add(what)
                useful += seconds
    items = [key for stay in stays for key in stay.items]
    steps = [step for stay in stays for step in stay.steps]
    length = sum(stay.length for stay in stays)
    killed = [stay for stay in stays if stay.ending in ("killed", "silent", "overran")]
    return {
        "sessions": len(stays),
        "kills": len(killed),
        "planned_stops": sum(stay.ending == "stopped" for stay in stays),
        "items": len(set(items)),
        "steps": len(set(steps)),
        "lost_items": sum(len(stay.lost_items) for stay in killed),
        "lost_steps": sum(stay.lost_steps for stay in killed),
        "twice_items": len(items) - len(set(items)),
        "twice_steps": len(steps) - len(set(steps)),
        "wall_s": round(sum(stay.ended - stay.began for stay in stays), 3),
        "startup_s": round(sum(stay.startup for stay in stays), 3),
        "from_opening_s": round(length, 3),
        "useful_s": round(useful, 3),
        "goodput": round(useful / length, 4) if length and once else None,
    }


def report(document: dict[str, Any]) -> str:
    """Lay one notebook's rehearsal out for reading."""
    sums, rows = document["sums"], document["sessions"]
    if not rows:
        return f"{document['notebook']}: {document['reason']}"
    state = "complete" if document["complete"] else f"not complete: {document['reason']}"
    many = f"{counted(sums['sessions'], 'session')}, {sums['kills']} killed"
    cells = [("#", "to open", "to work", "ran", "ended", "from", "work", "lost at the kill"), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    table = ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines = [f"{document['notebook']}: {state}. {many}", *table]
    if sums["items"] or sums["steps"]:
        lost = _amount(sums["lost_items"], sums["lost_steps"]) or "nothing"
        twice = _amount(sums["twice_items"], sums["twice_steps"]) or "nothing"
        lines.append(f"  lost: {lost}; done twice: {twice}; of {_amount(sums['items'], sums['steps'])}")
        lines.append(
            f"  goodput: {sums['goodput']:.2f} ({sums['useful_s']:.1f} s of work that counts in "
            f"{sums['from_opening_s']:.1f} s from opening; {sums['startup_s']:.1f} s of startup before)"
        )
    return "\n".join(lines)


def not_begun(notebook: str, lacking: list[str]) -> dict[str, Any]:
    """Return the document of a notebook that was kept back, because what it needs is not complete."""
    slug = notebook.removesuffix(".ipynb").partition("_")[2]
    reason = f"not begun, because it needs {', '.join(lacking)}"
    empty = {"failed_items": 0, "sums": account([]), "sessions": []}
    return {"notebook": notebook, "slug": slug, "complete": False, "reason": reason, **empty}


def summary(documents: list[dict[str, Any]]) -> str:
    """Lay several notebooks' rehearsals out, a line each, and add them up."""
    lines = [("notebook", "state", "sessions", "killed", "lost at kills", "goodput", "took")]
    for document in documents:
        sums = document["sums"]
        state = "complete" if document["complete"] else "NOT COMPLETE"
        state = f"{document['failed_items']} items FAILED" if document["failed_items"] else state
        goodput = "-" if sums["goodput"] is None else f"{sums['goodput']:.2f}"
        lost = _amount(sums["lost_items"], sums["lost_steps"]) or "nothing"
        counts = (str(sums["sessions"]), str(sums["kills"]), lost, goodput, show_duration(sums["wall_s"]))
        lines.append((document["notebook"].removesuffix(".ipynb"), state, *counts))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    complete = sum(document["complete"] for document in documents)
    sums = [document["sums"] for document in documents]
    many = f"{counted(sum(one['sessions'] for one in sums), 'session')}, {sum(one['kills'] for one in sums)} killed"
    whole = show_duration(sum(one["wall_s"] for one in sums))
    run = [document for document in documents if document["sums"]["sessions"]]
    unharmed = [document["notebook"].removesuffix(".ipynb") for document in run if not document["sums"]["kills"]]
    table.append(f"{complete} of {len(documents)} complete; {many}; {whole}")
    if unharmed:
        table.append(f"without a kill: {', '.join(unharmed)}")
    return "\n".join(table)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    place = [f"step {row['from_step']}"] if row["from_step"] else []
    place += [f"{row['from_items']} items"] if row["from_items"] else []
    ended = row["ended"] + (f" ({row['reason']})" if row["reason"] and row["ended"] == "stopped" else "")
    lost = _amount(row["lost_items"], row["lost_steps"]) if row["ended"] in ("killed", "overran") else ""
    return (
        str(row["number"]), show_duration(row["startup_s"]),
        "-" if row["to_work_s"] is None else show_duration(row["to_work_s"]), show_duration(row["length_s"]), ended,
        ", ".join(place) or "the start", _amount(row["items"], row["steps"]) or "-",
        lost or ("nothing" if row["ended"] in ("killed", "overran") else "-"),
    )  # fmt: skip


def _amount(items: int, steps: int) -> str:
    return ", ".join(counted(n, what) for n, what in ((items, "item"), (steps, "step")) if n)
