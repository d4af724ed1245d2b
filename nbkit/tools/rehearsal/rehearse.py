"""Rehearsals: run notebooks in many short sessions that are killed, until their phases are complete.

Only the store survives from one session to the next, as on a host that disappears, so a phase that completes here does
not depend on anything else. The chain runs all phases in their order, each with the results of the phases it needs.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.ground.files import write_json
from nbkit.ground.stand_in import stand_in_words
from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.address import show as shown
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.newest import newest_step
from nbkit.runtime.words import counted, show_duration
from nbkit.tools.notebooks import find_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters, refuse_options
from nbkit.tools.phases import Phase, load_phases
from nbkit.tools.rehearsal.accounts import RehearsedSession, account, not_begun, report, summary
from nbkit.tools.rehearsal.kaggle_machine import KaggleMachine
from nbkit.tools.rehearsal.lengthening import LONGEST, PATIENCE, hopeless, lengthened
from nbkit.tools.rehearsal.machine import STARTUP, Machine, ThisMachine
from nbkit.tools.rehearsal.running import FAILED, LEFT
from nbkit.tools.status.status import read_document

MACHINES = {"local": ThisMachine, "kaggle": KaggleMachine}
KILLS = ("mixed", "random", "wall", "work", "none")
EARLIEST = 0.3  # share of the session before the first kill: an earlier one would come before anything is saved


@dataclass(frozen=True)
class Script:
    """Plan of how sessions end.

    Attributes
    ----------
    session : float
        Length of a session in seconds, counted from its opening. Later sessions are longer if start-up needs it.
    kill : str
        ``random``: SIGKILL at a random time between 0.3 and 1 of the length. ``wall``: the session is given twice its
        length and killed after the true length, as by a host that does not announce its limit. ``none``: the session
        is given its length and stops by itself. ``mixed``: random kills and planned stops alternate, a kill first.
        ``work``: the same, but each kill comes at the first finished item or stored checkpoint; a notebook that ended
        before that is run again and killed at a random time.
    seed : int
        Seed of the random times.
    longest : float
        Longest session in seconds after lengthening; never less than `session`.
    poison : str or None
        Key of an item that takes its machine down each time it begins. It is to be set aside, and all others done.
    """

    session: float = 20.0
    kill: str = "mixed"
    seed: int = 0
    longest: float = LONGEST
    poison: str | None = None

    def plan(
        self, notebook: str, number: int, fruitless: int = 0, length: float | None = None, startup: float = 0.0
    ) -> tuple[float, float | None]:
        """Return the length that a session is given and the time of its kill (None for no kill), both in seconds.

        No kill comes before the measured `startup`. After sessions without progress the earliest time of a kill moves
        towards the end of the session, so that any notebook that can finish in a session of this length does so.
        """
        length = self.session if length is None else length
        if self.kill == "none" or (self.kill in ("mixed", "work") and number % 2 == 0):
            return length, None
        if self.kill == "wall":
            return 2 * length, length
        if self.kill == "work":
            return length, length
        draw = self._draw(notebook, number)
        earliest = min(1.0, max(EARLIEST, startup / length))
        earliest = min(1.0, earliest + (1.0 - earliest) * fruitless / (PATIENCE - 1))
        return length, length * (earliest + (1.0 - earliest) * draw)

    def second_run(self, notebook: str, session: RehearsedSession) -> float | None:
        """Return the time of the kill in a second run of a session that ended before its kill; else None."""
        if self.kill != "work" or session.number > 1 or session.ending != "complete":
            return None
        return session.length * (
            0.2 + 0.5 * self._draw(notebook, session.number)
        )  # less than its length, because the second run may be quicker

    def _draw(self, notebook: str, number: int) -> float:
        return random.Random(f"{self.seed}/{notebook}/{number}").random()


class Rehearsal:
    """Run notebooks in killed sessions until they are complete, and report on them.

    Parameters
    ----------
    machine : Machine
    store : Store
    script : Script
    cache : Path
        Folder for files that are read from the store.
    max_sessions : int
        Maximum number of sessions per notebook.
    say : callable
        Prints one line.
    """

    def __init__(
        self, machine: Machine, store: Store, script: Script, cache: Path, max_sessions: int = 200,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.machine, self.store, self.script, self.cache = machine, store, script, cache
        self.max_sessions, self.say = max_sessions, say
        self._number = 0

    def run(self, notebook: Path) -> dict[str, Any]:
        """Rehearse one notebook and return its report, which is also stored as ``<slug>/rehearsal.json``."""
        sessions: list[RehearsedSession] = []
        fruitless, reason, slug, again = 0, "", None, None
        length, longest = self.script.session, max(self.script.session, self.script.longest)
        changes: list[dict[str, Any]] = []
        while not reason:
            number = len(sessions) + 1
            self._number += 1
            startup = max((session.to_work for session in sessions[-2:] if session.to_work is not None), default=0.0)
            limit, kill_after = self.script.plan(notebook.name, number, fruitless, length, startup)
            if again is not None:
                kill_after = again
            session = self.machine.play(notebook, self._number, limit, kill_after)
            session.number = number
            slug = session.opened["slug"] if session.opened else slug
            before = (len(sessions[-1].stored_items), sessions[-1].stored_step) if sessions else None
            if slug is not None:
                session.stored_items, session.stored_step = self._stored(slug)
            sessions.append(session)
            self.say(_line(session))
            again = self.script.second_run(notebook.name, session)
            if session.ending == "complete" and again is None:
                break
            # a poisoned item is tried when nothing else is left, and brings nothing
            fruitless = 0 if _progress(session, before) or session.poisoned else fruitless + 1
            longer = lengthened(sessions, self.script.session, length, longest, fruitless)
            if longer is not None:
                changes.append({"after": number, "from_s": length, "to_s": longer[0], "why": longer[1]})
                self.say(longer[1])
                length, fruitless = longer[0], 0
            reason = self._reason(sessions, hopeless(sessions, length, longest, fruitless))
        document = {
            "notebook": notebook.name, "slug": slug, "complete": not reason, "reason": reason,
            "failed_items": int((sessions[-1].closed or {}).get("failed", 0)), "session_s": self.script.session,
            "lengthened": changes, "poisoned": sum(session.poisoned for session in sessions),
            "kill": self.script.kill, "seed": self.script.seed, "sums": account(sessions),
            "sessions": [session.row() for session in sessions],
        }  # fmt: skip
        if slug is not None:
            self._store_report(document, slug)
        return document

    def _stored(self, slug: str) -> tuple[set[str], int]:
        return set(read_state(self.store, slug, self.cache).done), newest_step(self.store, slug)

    def _reason(self, sessions: list[RehearsedSession], standstill: str) -> str:
        """Return why the rehearsal must stop; an empty string if it goes on."""
        last = sessions[-1]
        output = self.machine.last_output(self._number)
        if last.ending == "failed":
            return f"Session {last.number} failed with exit code {last.exit_code}. It printed last:\n{output}"
        if last.ending == "silent":
            return f"Session {last.number} did not open within {show_duration(STARTUP)}. It printed last:\n{output}"
        if standstill:
            return f"{standstill}. The last session printed:\n{output}"
        if len(sessions) >= self.max_sessions:
            return (
                f"Work is left after {self.max_sessions} sessions, the limit set by --max-sessions. Run the same "
                "command again to continue."
            )
        return ""

    def _store_report(self, document: dict[str, Any], slug: str) -> None:
        path = self.cache / "rehearsal.json"
        write_json(path, document)
        try:
            self.store.put(path, f"{slug}/rehearsal.json")
        except StoreError as error:
            self.say(f"The report could not be stored as {slug}/rehearsal.json: {error}")


def _progress(session: RehearsedSession, before: tuple[int, int] | None) -> bool:
    if before is None:
        before = (session.opened["done"], session.opened["step"]) if session.opened else (0, 0)
    return len(session.stored_items) > before[0] or session.stored_step > before[1]


def _line(session: RehearsedSession) -> str:
    stored = [counted(len(session.stored_items), "item")] if session.stored_items else []
    stored += [f"step {session.stored_step}"] if session.stored_step else []
    how = f"first work after {show_duration(session.to_work)}, " if session.to_work is not None else ""
    how += f"{session.ending} after {show_duration(session.length)}" if session.opened else session.ending
    return (
        f"Session {session.number}: opened after {show_duration(session.startup)}, {how}; "
        f"the store has {' and '.join(stored) or 'nothing yet'}"
    )


def rehearse(
    notebooks: Sequence[str | os.PathLike[str]],
    *,
    script: Script,
    store: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    smoke: bool = False,
    max_sessions: int = 200,
    host: str = "local",
    chain: bool = False,
    say: Callable[[str], None] = print,
    show: Callable[[str], None] | None = None,
) -> tuple[int, list[dict[str, Any]]]:
    """Rehearse notebooks one after the other, each after the phase before it is complete.

    Parameters
    ----------
    notebooks : sequence of str or path
        Paths, names such as ``40_bandvar_train``, or slugs.
    script : Script
        How sessions end.
    store : str or None
        Folder or URL; None uses NBKIT_STORE, then ``./nbkit-store``.
    parameters : mapping or None
        Notebook parameters; each is passed to every notebook that has it.
    smoke : bool
        True to run the notebooks at small sizes.
    max_sessions : int
        Maximum number of sessions per notebook.
    host : str
        ``local``, or ``kaggle`` to use that host's folders, variables, pushed copy and runner.
    chain : bool
        True to run every phase in its order if no notebook is named. If a phase does not complete, the phases that
        need it are skipped and all others are run.
    say : callable
        Prints one line.
    show : callable or None
        Called about every second with a line about the running session.

    Returns
    -------
    exit_code : int
        0 if all are complete, 1 if one failed or makes no progress, 2 if its parameters or data are at fault, 3 if
        `max_sessions` was reached.
    reports : list of dict

    Raises
    ------
    UsageError
        If a notebook does not exist, no notebook has a given parameter, or the kind of kill or the host is unknown.
    """
    if script.kill not in KILLS:
        raise UsageError(f"{unknown('kind of kill', script.kill, KILLS)} Nothing was begun.")
    if host not in MACHINES:
        raise UsageError(f"{unknown('host', host, MACHINES)} Nothing was begun.")
    phases = {phase.notebook: phase for phase in load_phases()} if chain else {}
    notebooks = notebooks or [Path(name).stem for name in phases]
    if not notebooks:
        raise UsageError(
            "No notebook was given. Name one or more, such as: nbkit rehearse 10_eeg_windows, or use --all for every "
            "phase. Nothing was begun."
        )
    notebooks = [find_notebook(path) for path in notebooks]
    refuse_options(parameters or {}, {"STORE": "--store", "LIMIT": "--session"})
    shared = _distribute(notebooks, _absolute(parameters or {}, say), smoke)
    address = store_address(store)
    documents: list[dict[str, Any]] = []
    code = 0
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="nbkit-rehearsal-") as folder:
        at_work = script.kill == "work"
        machine = MACHINES[host](address, Path(folder), shared, smoke, at_work, show, poison=script.poison)
        whole = Rehearsal(machine, Retried(open_store(address)), script, Path(folder, "read"), max_sessions, say)
        for notebook in notebooks:
            missing = lacking(phases[notebook.name], documents) if chain and notebook.name in phases else []
            if missing:
                documents.append(not_begun(notebook.name, missing))
                say(report(documents[-1]))
                continue
            length, where = show_duration(script.session), shown(address)
            say(f"{notebook.name}: sessions of {length}, kill {script.kill}, store {where}")
            document = whole.run(notebook)
            documents.append(document)
            say(report(document))
            for line in to_look_at(whole.store, document["slug"], whole.cache, where):
                say(line)
            if not document["complete"]:
                left = document["sums"]["sessions"] >= max_sessions
                asked = document["sums"]["sessions"] and document["sessions"][-1]["exit"] == UsageError.exit_code
                code = LEFT if left and code in (0, LEFT) else UsageError.exit_code if asked else FAILED
                if not chain:
                    return code, documents
            elif document["failed_items"] != (script.poison is not None):
                code = FAILED
            if script.poison is not None:
                say(_of_poison(script.poison, document))
    if len(documents) > 1:
        say(summary(documents))
    return code, documents


def to_look_at(store: Store, slug: str | None, cache: Path, where: str) -> list[str]:
    """Return lines about a phase's figures in the store, and about what in its data or weights is not real."""
    if slug is None:
        return []
    lines = []
    try:
        names = [stat.name.rpartition("/")[2] for stat in store.list(f"{slug}/figures/")]
        if names:
            lines.append(f"  figures: {', '.join(names)} in {where}/{slug}/figures")
        content, _ = read_document(store, f"{slug}/results.json", cache)
        words = stand_in_words(content or {})
    except (StoreError, FileNotFoundError):
        return lines  # a rehearsal's result does not depend on it
    return [*lines, f"  not real: {words}"] if words else lines


def _of_poison(key: str, document: dict[str, Any]) -> str:
    """Return what became of the item that took its machine down."""
    times = document["poisoned"]
    if not times:
        return f"The item {key} never began in {document['notebook']}: no machine went down with it."
    if document["complete"] and document["failed_items"] == 1:
        return f"The item {key} took its machine down {times} times and was set aside; all others are done."
    return f"The item {key} took its machine down {times} times; {counted(document['failed_items'], 'item')} failed."


def lacking(phase: Phase, documents: list[dict[str, Any]]) -> list[str]:
    """Return the slugs of the phases that a phase needs and that were rehearsed but are not complete."""
    incomplete = [document["notebook"] for document in documents if not document["complete"]]
    slugs = [
        name.removesuffix(".ipynb").partition("_")[2] for name in incomplete
    ]  # not document["slug"]: it is None if no session opened
    return [slug for slug in slugs if slug in phase.needs]


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM as on Ctrl-C, so that the running session is killed and deleted, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _absolute(parameters: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Return parameters with existing relative paths made absolute, because each session runs in its own folder."""
    found = dict(parameters)
    for name, value in found.items():
        if isinstance(value, str) and "/" in value and not os.path.isabs(value) and Path(value).exists():
            found[name] = os.path.realpath(value)
            say(f"{name} = {found[name]}")
    return found


def _distribute(notebooks: list[Path], given: Mapping[str, Any], smoke: bool) -> dict[Path, dict[str, Any]]:
    """Return the given parameters that each notebook has; raise UsageError if no notebook has one of them."""
    known = {path: notebook_parameters(path) for path in notebooks}
    everywhere = {name: None for names in known.values() for name in names}
    for name in given:
        if name not in everywhere:
            raise UsageError(f"{unknown('parameter in these notebooks', name, everywhere)} Nothing was begun.")
    shared = {}
    for path, names in known.items():
        shared[path] = check_parameters(path, names, {n: v for n, v in given.items() if n in names})
        if smoke:
            check_parameters(path, names, {"SMOKE": True})
    return shared
