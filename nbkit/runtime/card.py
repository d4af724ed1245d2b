"""Cards: the summaries that a session prints when it opens and closes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.home import home
from nbkit.runtime.beside.listening import Others
from nbkit.runtime.budget import Budget
from nbkit.runtime.device import Device
from nbkit.runtime.hosts import Host, store_warning
from nbkit.runtime.ledger.claims import aside_words
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.records import MISTAKE, REFUSED
from nbkit.runtime.words import counted, last_line, listed, show_duration


@dataclass(frozen=True)
class CardFacts:
    """What the cards show about a session.

    Attributes
    ----------
    id, slug : str
        The session and its phase.
    shard : str or None
    smoke : bool
    host : Host
    device : Device or None
    store : str
        URL of the store.
    folder : Path
        Folder of the local files.
    budget : Budget
    ledger : Ledger
    waiting : int
        Number of files of earlier sessions that are not in the store yet.
    step : int
        Step of the newest checkpoint in the store; 0 if there is none.
    """

    id: str
    slug: str
    shard: str | None
    smoke: bool
    host: Host
    device: Device | None
    store: str
    folder: Path
    budget: Budget
    ledger: Ledger
    waiting: int
    step: int


def opening_card(session: CardFacts, others: Others) -> str:
    """Return the opening card: host, device, time, store, the sessions beside it, and where it continues from."""
    state, budget = session.ledger.state, session.budget
    now_open = {other.session for other in others.at_first}
    past = [events for name, events in state.sessions.items() if name != session.id and name not in now_open]
    killed = sum("close" not in events for events in past)
    also = f"; {len(now_open)} open now" * bool(now_open)
    rows = [
        ("phase", session.slug + (f", shard {session.shard}" if session.shard else "") + (" (smoke)" * session.smoke)),
        ("host", f"{session.host.name}: {session.host.words}"),
        ("device", str(session.device) if session.device else "not needed"),
        ("budget", _budget(budget)),
        ("store", session.store),
        *([("warning", warning)] if (warning := store_warning(session.store)) else []),
        ("items", _items(session)),
        ("sessions", f"{len(past)} before this one, {killed} of them ended without closing{also}"),
        *others.card_rows(),
    ]
    if session.step:
        rows.append(("training", f"a checkpoint at step {session.step} is in the store"))
    if session.waiting:
        rows.append(("outbox", f"{counted(session.waiting, 'file')} of earlier sessions will be uploaded first"))
    return _framed(f"nbkit session {session.id}", rows)


def _budget(budget: Budget) -> str:
    if budget.limit is None:
        return "no limit"
    return (
        f"{show_duration(budget.limit)}, of which {show_duration(budget.wall())} are left and "
        f"{show_duration(budget.reserve)} are reserved for saving"
    )


def _items(session: CardFacts) -> str:
    state = session.ledger.state
    text = f"{len(state.done)} done"
    if session.ledger.here:
        text += f", {len(session.ledger.here)} done and being uploaded"
    blame = session.ledger.blame()
    failed = sum(key not in state.done and key not in blame.aside for key in state.failures)
    if failed:
        text += f", {failed} failed"
    if blame.aside:
        text += f", {len(blame.aside)} set aside: {aside_words(blame.aside)}"
    suspects = blame.suspects.keys() - blame.aside.keys()
    if suspects:
        text += f"; sessions died in {listed(sorted(suspects))}, tried last"
    return text


def closing_card(session: CardFacts, summary: dict[str, Any], fault: str | None) -> str:
    """Return the closing card: what was done, what is left, why the session stopped, and what to do next."""
    rows = [("done", f"{counted(summary['done'], 'item')} in the store")]
    if "step" in summary:
        early = summary["step"] < summary["max_steps"] and summary["reason"] == "complete"
        rows.append(("step", f"{summary['step']} of {summary['max_steps']}" + ", ended by its patience" * early))
    chosen = summary.get("chosen", {})
    if "val_batches" in chosen:
        rows.append(("validation", f"on {chosen['val_batches']} batches each time, chosen once by time"))
    if chosen.get("pieces", 1) > 1:
        rows.append(("memory", f"each batch in {chosen['pieces']} pieces, chosen once by the memory"))
    rows.append(("left", f"{counted(summary['left'], 'item')}, {summary['failed']} failed"))
    if summary["failed"]:
        state, aside = session.ledger.state, session.ledger.blame().aside
        key = next((k for k in state.errors if k not in state.done), None)
        if key is not None:
            rows.append(("error", f"{key}: {last_line(state.errors[key], 120)}"))
        if aside:
            rows.append(("set aside", f"{aside_words(aside)}; retry_failed=True tries again"))
    if summary["not_stored"]:
        names = summary["not_stored"]
        rows.append(("not stored", f"{counted(len(names), 'file')}, such as {names[0]}; kept in {session.folder}"))
    if fault:
        rows.append(("error", fault))
    rows.append(("stopped", f"{summary['reason']}, after {show_duration(session.budget.elapsed())}"))
    after = next_notebooks(session.slug)
    going_on = f"{' or '.join(after)}: this phase is complete" if after else "nothing more: this phase is complete"
    again = "run this notebook again: it continues from here"
    if summary["reason"] in (REFUSED, MISTAKE):
        again = f"correct what was refused, then {again}"
    rows.append(("next", going_on if summary["complete"] else again))
    return _framed(f"nbkit session {session.id} closed", rows)


def next_notebooks(slug: str) -> list[str]:
    """Return the notebooks, three at most, that a phase is the last to be needed by; others wait for more."""
    try:
        phases = tomllib.loads((home() / "manifests" / "phases.toml").read_text("utf-8"))["phase"]
        number = {phase["slug"]: phase["number"] for phase in phases}
        after = [phase for phase in phases if phase["needs"] and max(phase["needs"], key=number.__getitem__) == slug]
        return [f"{phase['number']:02d}_{phase['slug']}" for phase in after][:3]
    except (OSError, KeyError, TypeError, ValueError):  # another project's phases have no such list
        return []


def _framed(title: str, rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in rows)])
