"""Machine of a rehearsed session: an empty folder, a time limit, and an end without warning.

The session's folder is deleted afterwards, whether it was killed or not. Only processes that were started here are ever
killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbkit.ground.home import import_folder
from nbkit.runtime.journal import KILLED, VARIABLE, of_kind, read_journal
from nbkit.tools.parameters import refuse_fixed, typed
from nbkit.tools.rehearsal.accounts import RehearsedSession
from nbkit.tools.rehearsal.live_line import doing
from nbkit.tools.rehearsal.process_tree import ProcessTree
from nbkit.tools.rehearsal.running import LEFT

STARTUP = 300.0  # seconds that a session may take to open
_CLOSING = 60.0  # seconds that a notebook may take after session.close(), to store its files and end its kernel
_TICK = 0.02  # seconds between two looks at the process


class Machine(Protocol):
    """Runner of single sessions."""

    def play(self, notebook: Path, number: int, limit: float, kill_after: float | None) -> RehearsedSession:
        """Run one session of a notebook, end it, and return its record."""
        ...

    def last_output(self, number: int) -> str:
        """Return the last lines that a session printed."""
        ...


@dataclass
class ThisMachine:
    """Run sessions on this machine, each in its own process tree and empty folder.

    Attributes
    ----------
    store : str
        Absolute address of the store.
    folder : Path
        Folder for the sessions' folders and, beside these, their journals and logs.
    parameters : mapping
        Notebook parameters for each notebook's path.
    smoke : bool
        True to run the notebooks at small sizes.
    at_work : bool
        True to kill a session as soon as it has work to lose: an item done or a checkpoint stored.
    show : callable or None
        Called about every second with a line about what the session is doing.
    """

    store: str
    folder: Path
    parameters: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    smoke: bool = False
    at_work: bool = False
    show: Callable[[str], None] | None = None
    poison: str | None = None
    """Key of an item that takes the machine down each time it begins."""
    killed: list[str] = field(default_factory=list)
    """Sessions that this machine killed: no item is to blame for it."""

    def play(self, notebook: Path, number: int, limit: float, kill_after: float | None) -> RehearsedSession:
        """Run one session, kill it if the plan says so, delete its folder, and return its record.

        Parameters
        ----------
        notebook : Path
        number : int
            Number of the session in this rehearsal.
        limit : float
            Length that the session is given, in seconds.
        kill_after : float or None
            Seconds after the opening at which it is killed; None for no kill.
        """
        room = self.folder / f"session-{number:03d}"
        temporary = room / "tmp"
        temporary.mkdir(parents=True)
        journal = self._session_file(number, "jsonl")
        variables = {
            VARIABLE: str(journal), "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(import_folder()), os.environ.get("PYTHONPATH")])),
        }  # fmt: skip
        variables[KILLED] = ",".join(self.killed)
        command, folder, environment = self.prepare(notebook, limit, room, os.environ | variables)
        session = RehearsedSession(number, time.time(), limit=limit)
        with open(self._session_file(number, "log"), "wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            tree = ProcessTree(process.pid, (VARIABLE, str(journal)))
            try:
                killed = self._watch(notebook, process, tree, journal, session, kill_after)
            finally:
                session.processes_killed = tree.kill()  # also what a session left running when it ended
                session.ended = time.time()
                process.wait()
        session.exit_code = process.returncode
        session.events = read_journal(journal)
        session.poisoned = killed and _has_begun(journal, self.poison)
        session.ending = _ending(session, killed, kill_after)
        if killed and not session.poisoned:
            self.killed += [event["session"] for event in of_kind(session.events, "open")]
        shutil.rmtree(room)
        return session

    def prepare(
        self, notebook: Path, limit: float, room: Path, environment: Mapping[str, str]
    ) -> tuple[list[str], Path, dict[str, str]]:
        """Return the command, the working folder and the environment variables of a session.

        Raises
        ------
        UsageError
            If the notebook opens its session with a store or a limit of its own.
        """
        refuse_fixed(notebook, {"store": ("--store", self.store), "limit": ("--session", f"{limit}s")})
        command = [sys.executable, "-m", "nbkit", "run", str(notebook), "--limit", f"{limit}s"]
        for name, value in self.parameters.get(notebook, {}).items():
            command += ["-p", f"{name}={typed(value)}"]
        variables = {"NBKIT_STORE": self.store, "NBKIT_LIMIT": str(limit)}
        return [*command, *["--smoke"] * self.smoke], room, {**environment, **variables}

    def last_output(self, number: int) -> str:
        """Return the last lines that a session printed."""
        lines = self._session_file(number, "log").read_text("utf-8", errors="replace").strip().splitlines()
        return "\n".join(f"  | {line}" for line in lines[-15:])

    def _session_file(self, number: int, suffix: str) -> Path:
        return self.folder / f"session-{number:03d}.{suffix}"

    def _watch(
        self, notebook: Path, process: subprocess.Popen, tree: ProcessTree, journal: Path, session: RehearsedSession,
        kill_after: float | None,
    ) -> bool:  # fmt: skip
        """Wait until the process ends or must be killed; return whether it must be killed."""
        opened: float | None = None
        looked = 0.0
        while process.poll() is None:
            now = time.time()
            if now - looked > 1.0:
                tree.look()
                looked = now
                if self.show is not None:
                    self.show(f"{notebook.stem}: {doing(read_journal(journal), now, session.began, session.limit)}")
            if opened is None and journal.is_file():
                opened = next((event["t"] for event in of_kind(read_journal(journal), "open")), None)
            if opened is None and now - session.began > STARTUP:
                return True
            if opened is not None and now - opened > (
                kill_after if kill_after is not None else session.limit + _CLOSING
            ):
                return True
            if _has_begun(journal, self.poison):
                return True
            if self.at_work and kill_after is not None and opened is not None and _has_worked(journal):
                return True
            time.sleep(_TICK)
        return False


def _has_begun(journal: Path, key: str | None) -> bool:
    return key is not None and any(event.get("key") == key for event in of_kind(read_journal(journal), "begin"))


def _has_worked(journal: Path) -> bool:
    return any(event["e"] in ("item", "stored") for event in read_journal(journal))


def _ending(session: RehearsedSession, killed: bool, kill_after: float | None) -> str:
    if session.closed is not None and (killed or session.exit_code in (0, LEFT, session.closed.get("exit"))):
        return "complete" if session.closed["complete"] else "stopped"  # a kill after the close loses nothing
    if killed:
        planned = kill_after is not None or session.poisoned
        return "silent" if session.opened is None else "killed" if planned else "overran"
    return "complete" if session.exit_code == 0 else "failed"
