"""The machine of a rehearsed session: a fresh folder, a wall, and an end without warning.

Whatever a session leaves is wiped, killed or not. Nothing but processes that were started here is ever killed.
"""

from __future__ import annotations

import json
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
from nbkit.runtime.journal import VARIABLE, of_kind, read_journal
from nbkit.tools.rehearsal.accounts import Stay
from nbkit.tools.rehearsal.live_line import doing
from nbkit.tools.rehearsal.process_tree import ProcessTree
from nbkit.tools.rehearsal.running import LEFT

STARTUP = 300.0  # seconds that a session may take to open
_CLOSING = 60.0  # seconds that a notebook may take after session.close(), for its papers and its kernel
_TICK = 0.02


class Machine(Protocol):
    """Run one session of a notebook somewhere, and end it."""

    def play(self, notebook: Path, number: int, limit: float, kill_after: float | None) -> Stay:
        """Return what became of it."""
        ...

    def last_words(self, number: int) -> str:
        """Return the end of what it printed."""
        ...


@dataclass
class ThisMachine:
    """Run sessions here, one process tree and one fresh folder each.

    Attributes
    ----------
    store : str
        Address of the store, absolute.
    folder : Path
        Holds the sessions' folders, and outside of them their journals and logs.
    parameters : mapping
        Notebook parameters by the notebook's path.
    smoke : bool
    at_work : bool
        True to kill a session that is to be killed as soon as it has work to lose: an item done, a checkpoint stored.
    show : callable or None
        Gets a line about what the session is doing, every second or so.
    """

    store: str
    folder: Path
    parameters: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    smoke: bool = False
    at_work: bool = False
    show: Callable[[str], None] | None = None

    def play(self, notebook: Path, number: int, limit: float, kill_after: float | None) -> Stay:
        """Run one session, kill it where the script says so, and wipe its folder."""
        room = self.folder / f"session-{number:03d}"
        temporary = room / "tmp"
        temporary.mkdir(parents=True)
        journal = self._paper(number, "jsonl")
        told = {
            VARIABLE: str(journal), "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(import_folder()), os.environ.get("PYTHONPATH")])),
        }  # fmt: skip
        command, folder, environment = self.lay_out(notebook, limit, room, os.environ | told)
        stay = Stay(number, time.time(), limit=limit)
        with open(self._paper(number, "log"), "wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            tree = ProcessTree(process.pid, (VARIABLE, str(journal)))
            try:
                killed = self._watch(notebook, process, tree, journal, stay, kill_after)
            finally:
                stay.processes_killed = tree.kill()  # what a session that ended left running goes with its machine
                stay.ended = time.time()
                process.wait()
        stay.exit_code = process.returncode
        stay.events = read_journal(journal)
        stay.ending = _ending(stay, killed, kill_after)
        shutil.rmtree(room)
        return stay

    def lay_out(
        self, notebook: Path, limit: float, room: Path, environment: Mapping[str, str]
    ) -> tuple[list[str], Path, dict[str, str]]:
        """Return a session's command, the folder it runs in, and its variables; a host's own machine differs here."""
        command = [sys.executable, "-m", "nbkit", "run", str(notebook), "--limit", f"{limit}s"]
        for name, value in self.parameters.get(notebook, {}).items():
            command += ["-p", f"{name}={json.dumps(value)}"]
        told = {"NBKIT_STORE": self.store, "NBKIT_LIMIT": str(limit)}
        return [*command, *["--smoke"] * self.smoke], room, {**environment, **told}

    def last_words(self, number: int) -> str:
        """Return the last lines that a session printed."""
        lines = self._paper(number, "log").read_text("utf-8", errors="replace").strip().splitlines()
        return "\n".join(f"  | {line}" for line in lines[-15:])

    def _paper(self, number: int, suffix: str) -> Path:
        return self.folder / f"session-{number:03d}.{suffix}"

    def _watch(
        self, notebook: Path, process: subprocess.Popen, tree: ProcessTree, journal: Path, stay: Stay,
        kill_after: float | None,
    ) -> bool:  # fmt: skip
        """Wait until the process ends or its time comes; say whether it must be killed."""
        opened: float | None = None
        looked = 0.0
        while process.poll() is None:
            now = time.time()
            if now - looked > 1.0:
                tree.look()
                looked = now
                if self.show is not None:
                    self.show(f"{notebook.stem}: {doing(read_journal(journal), now, stay.began, stay.limit)}")
            if opened is None and journal.is_file():
                opened = next((event["t"] for event in of_kind(read_journal(journal), "open")), None)
            if opened is None and now - stay.began > STARTUP:
                return True
            if opened is not None and now - opened > (kill_after if kill_after is not None else stay.limit + _CLOSING):
                return True
            if self.at_work and kill_after is not None and opened is not None and _has_worked(journal):
                return True
            time.sleep(_TICK)
        return False


def _has_worked(journal: Path) -> bool:
    return any(event["e"] in ("item", "stored") for event in read_journal(journal))


def _ending(stay: Stay, killed: bool, kill_after: float | None) -> str:
    if stay.closed is not None and (killed or stay.exit_code in (0, LEFT, stay.closed.get("exit"))):
        return "complete" if stay.closed["complete"] else "stopped"  # killed after its close: nothing was left to lose
    if killed:
        return "silent" if stay.opened is None else "killed" if kill_after is not None else "overran"
    return "complete" if stay.exit_code == 0 else "failed"
