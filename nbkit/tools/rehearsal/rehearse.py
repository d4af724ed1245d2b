"""Rehearsal: a notebook in many short sessions that are killed, until its phase is complete.

Only the store goes on from one session to the next, as on a host that dies; a phase that is complete here does not
depend on anything else. All phases together are the chain: each in its order, with what it needs from those before.
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

from nbkit.ground.files import write_json
from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.newest import newest_step
from nbkit.runtime.words import show_duration, unknown
from nbkit.tools.notebooks import check_parameters, find_notebook, notebook_parameters
from nbkit.tools.phases import Phase, load_phases
from nbkit.tools.rehearsal.accounts import Stay, account, not_begun, report, summary
from nbkit.tools.rehearsal.kaggle_machine import KaggleMachine
from nbkit.tools.rehearsal.lengthening import LONGEST, PATIENCE, hopeless, lengthened
from nbkit.tools.rehearsal.machine import STARTUP, Machine, ThisMachine
from nbkit.tools.rehearsal.running import FAILED, LEFT

MACHINES = {"local": ThisMachine, "kaggle": KaggleMachine}
KILLS = ("mixed", "random", "wall", "work", "none")
EARLIEST = 0.3  # of the session: a kill before any work can be saved shows nothing but that


@dataclass(frozen=True)
class Script:
    """Say how sessions are to end.

    Attributes
    ----------
    session : float
        Length of a session in seconds, from opening it; the first one's, where start-up asks for longer ones.
    kill : str
        ``random``: SIGKILL at a random moment of 0.3 to 1 of the length. ``wall``: the session is told twice its
        length and killed at the end of it, as by a host that keeps its wall to itself. ``none``: it is told its
        length and stops by itself. ``mixed``: random kills and planned stops in turn, a kill first. ``work``: in turn
        too, and the kill comes with the first item done or checkpoint stored; a notebook that was over before is run
        again and killed at a random moment of what it took.
    seed : int
        From it all moments are derived.
    longest : float
        Seconds that a session may get where it is lengthened; never less than `session`.
    """

    session: float = 20.0
    kill: str = "mixed"
    seed: int = 0
    longest: float = LONGEST

    def scene(
        self, notebook: str, number: int, fruitless: int = 0, length: float | None = None, startup: float = 0.0
    ) -> tuple[float, float | None]:
        """Give a session's length as told to it, and the moment of its kill (None for none), both in seconds.

        No kill comes before the `startup` that was measured. After sessions without progress the earliest moment moves
        up to the whole length, so that a notebook that can be done at all in a session of this length is done.
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

    def encore(self, notebook: str, stay: Stay) -> float | None:
        """Return the moment of the kill in a second run of a session that was over unharmed; None for no such run."""
        if self.kill != "work" or stay.number > 1 or stay.ending != "complete":
            return None
        return stay.length * (0.2 + 0.5 * self._draw(notebook, stay.number))  # the second run may be quicker

    def _draw(self, notebook: str, number: int) -> float:
        return random.Random(f"{self.seed}/{notebook}/{number}").random()


class Rehearsal:
    """Run notebooks to completion in killed sessions, and report.

    Parameters
    ----------
    machine : Machine
    store : Store
    script : Script
    cache : Path
        Folder for what is read of the store.
    max_sessions : int
        Of one notebook.
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
        """Rehearse one notebook; give its report as a dict, also kept as ``<slug>/rehearsal.json`` in the store."""
        stays: list[Stay] = []
        fruitless, reason, slug, again = 0, "", None, None
        length, longest = self.script.session, max(self.script.session, self.script.longest)
        changes: list[dict[str, Any]] = []
        while not reason:
            number = len(stays) + 1
            self._number += 1
            startup = max((stay.to_work for stay in stays[-2:] if stay.to_work is not None), default=0.0)
            limit, kill_after = self.script.scene(notebook.name, number, fruitless, length, startup)
            if again is not None:
                kill_after = again
            stay = self.machine.play(notebook, self._number, limit, kill_after)
            stay.number = number
            slug = stay.opened["slug"] if stay.opened else slug
            before = (len(stays[-1].stored_items), stays[-1].stored_step) if stays else None
            if slug is not None:
                stay.stored_items, stay.stored_step = self._stored(slug)
            stays.append(stay)
            self.say(_line(stay))
            again = self.script.encore(notebook.name, stay)
            if stay.ending == "complete" and again is None:
                break
            fruitless = 0 if _progress(stay, before) else fruitless + 1
            longer = lengthened(stays, self.script.session, length, longest, fruitless)
            if longer is not None:
                changes.append({"after": number, "from_s": length, "to_s": longer[0], "why": longer[1]})
                self.say(longer[1])
                length, fruitless = longer[0], 0
            reason = self._reason(stays, hopeless(stays, length, longest, fruitless))
        document = {
            "notebook": notebook.name, "slug": slug, "complete": not reason, "reason": reason,
            "failed_items": int((stays[-1].closed or {}).get("failed", 0)), "session_s": self.script.session,
            "lengthened": changes,
            "kill": self.script.kill, "seed": self.script.seed, "sums": account(stays),
            "sessions": [stay.row() for stay in stays],
        }  # fmt: skip
        if slug is not None:
            self._keep(document, slug)
        return document

    def _stored(self, slug: str) -> tuple[set[str], int]:
        return set(read_state(self.store, slug, self.cache).done), newest_step(self.store, slug)

    def _reason(self, stays: list[Stay], standstill: str) -> str:
        """Say why to stop; empty to go on."""
        last = stays[-1]
        words = self.machine.last_words(self._number)
        if last.ending == "failed":
            return f"session {last.number} failed with exit code {last.exit_code}:\n{words}"
        if last.ending == "silent":
            return f"session {last.number} had not opened after {show_duration(STARTUP)}:\n{words}"
        if standstill:
            return f"{standstill}. The last session printed:\n{words}"
        if len(stays) >= self.max_sessions:
            return f"{self.max_sessions} sessions were run (--max-sessions) and work is left; the same command goes on"
        return ""

    def _keep(self, document: dict[str, Any], slug: str) -> None:
        path = self.cache / "rehearsal.json"
        write_json(path, document)
        try:
            self.store.put(path, f"{slug}/rehearsal.json")
        except StoreError as error:
            self.say(f"the report did not reach the store as {slug}/rehearsal.json: {error}")


def _progress(stay: Stay, before: tuple[int, int] | None) -> bool:
    if before is None:
        before = (stay.opened["done"], stay.opened["step"]) if stay.opened else (0, 0)
    return len(stay.stored_items) > before[0] or stay.stored_step > before[1]


def _line(stay: Stay) -> str:
    held = [f"{len(stay.stored_items)} items"] if stay.stored_items else []
    held += [f"step {stay.stored_step}"] if stay.stored_step else []
    how = f"at work after {show_duration(stay.to_work)}, " if stay.to_work is not None else ""
    how += f"{stay.ending} after {show_duration(stay.length)}" if stay.opened else stay.ending
    return (
        f"session {stay.number}: opened after {show_duration(stay.startup)}, {how}; "
        f"the store has {' and '.join(held) or 'nothing yet'}"
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
    """Rehearse notebooks one after the other; the next begins when the phase before it is complete.

    Parameters
    ----------
    notebooks : sequence of str or path
        Paths, names such as ``40_bandvar_train``, or slugs.
    script : Script
        How sessions end.
    store : str or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    parameters : mapping or None
        Each goes to every notebook that names it.
    smoke : bool
    max_sessions : int
        Of one notebook.
    host : str
        ``local``, or ``kaggle`` for that host's folders, variables, pushed copy and runner.
    chain : bool
        True to take every phase where no notebook is named, in the order of what they need; one that does not get
        complete keeps back those that need it, and no other.
    say : callable
        Prints one line.
    show : callable or None
        Gets a line about the running session, every second or so.

    Returns
    -------
    exit_code : int
        0 where all are complete, 1 where one failed or stands still, 3 where `max_sessions` ran out.
    reports : list of dict

    Raises
    ------
    UsageError
        For a notebook that is not there, a parameter that none of them names, or an unknown way to kill or
        host.
    """
    if script.kill not in KILLS:
        raise UsageError(f"{unknown('way to kill', script.kill, KILLS)} Nothing was begun.")
    if host not in MACHINES:
        raise UsageError(f"{unknown('host', host, MACHINES)} Nothing was begun.")
    phases = {phase.notebook: phase for phase in load_phases()} if chain else {}
    notebooks = notebooks or [Path(name).stem for name in phases]
    if not notebooks:
        raise UsageError("no notebook was given; such as: nbkit rehearse notebooks/10_eeg_windows.ipynb, or --all")
    notebooks = [find_notebook(path) for path in notebooks]
    shared = _spread(notebooks, _absolute(parameters or {}, say), smoke)
    address = store_address(store)
    documents: list[dict[str, Any]] = []
    code = 0
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="nbkit-rehearsal-") as folder:
        machine = MACHINES[host](address, Path(folder), shared, smoke, script.kill == "work", show)
        whole = Rehearsal(machine, Retried(open_store(address)), script, Path(folder, "read"), max_sessions, say)
        for notebook in notebooks:
            kept_back = lacking(phases[notebook.name], documents) if chain and notebook.name in phases else []
            if kept_back:
                documents.append(not_begun(notebook.name, kept_back))
                say(report(documents[-1]))
                continue
            say(f"{notebook.name}: sessions of {show_duration(script.session)}, kill {script.kill}, store {address}")
            document = whole.run(notebook)
            documents.append(document)
            say(report(document))
            if not document["complete"]:
                left = document["sums"]["sessions"] >= max_sessions
                code = LEFT if left and code != FAILED else FAILED
                if not chain:
                    return code, documents
            elif document["failed_items"]:
                code = FAILED
    if len(documents) > 1:
        say(summary(documents))
    return code, documents


def lacking(phase: Phase, documents: list[dict[str, Any]]) -> list[str]:
    """Return what a phase needs of those that were rehearsed before it and are not complete."""
    incomplete = [document["notebook"] for document in documents if not document["complete"]]
    slugs = [name.removesuffix(".ipynb").partition("_")[2] for name in incomplete]  # one may never have opened
    return [slug for slug in slugs if slug in phase.needs]


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End by an exception on SIGTERM as on Ctrl-C, so that the session in work is ended and wiped with it."""
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
    """Make paths of this folder absolute: sessions run in folders of their own."""
    found = dict(parameters)
    for name, value in found.items():
        if isinstance(value, str) and "/" in value and not os.path.isabs(value) and Path(value).exists():
            found[name] = str(Path(value).resolve())
            say(f"{name} = {found[name]}")
    return found


def _spread(notebooks: list[Path], given: Mapping[str, Any], smoke: bool) -> dict[Path, dict[str, Any]]:
    """Return each notebook the parameters that it names; one that none names is refused."""
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
