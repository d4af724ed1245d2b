"""Bring a phase to completion on Colab: one runtime after another, until it is complete or the budget is spent.

A runtime that is lost takes nothing with it that was stored; the next one goes on. A connection that breaks ends
nothing: the run on the machine goes on, and is joined again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_json
from nbkit.ground.home import checkout, home
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import put_together
from nbkit.runtime.training.newest import stored_runs
from nbkit.runtime.training.sameness.asked import ANEW
from nbkit.runtime.words import counted, parse_duration
from nbkit.tools.colab.budget import ROOM, WALL, Budget
from nbkit.tools.colab.client import Colab, ColabError, check_gpu, wait_for
from nbkit.tools.colab.machine import FOLDER, Told, ended
from nbkit.tools.handing_on import credential_files, reachable
from nbkit.tools.kaggle.copy import extras_of, pushed_copy, require_names
from nbkit.tools.kaggle.datasets import build_wheel
from nbkit.tools.kaggle.runs import Push, record_push
from nbkit.tools.notebooks import read_notebook
from nbkit.tools.parameters import refuse_options
from nbkit.tools.phases import Phase, find_phase
from nbkit.tools.status.status import read_status

PATIENCE = 2 * 3600.0  # seconds that a runtime is waited for
PAUSE = 300.0  # seconds between two tries to get one
LOOK = 300.0  # seconds between two looks at whether it is still there
_STOPPING = 60.0  # seconds of what was given that its end may take
_ENDING = 300.0  # seconds that a run gets to store its executed notebook, once the phase is complete
_AGAIN = 15.0  # seconds before a lost connection is made again
_FRUITLESS = 2  # runs in a row that ended by themselves without anything new
_LINES, _MOST = 8, 600  # last lines of the run's own words, and their characters


@dataclass(frozen=True)
class Order:
    """What is to run on Colab.

    Attributes
    ----------
    slug : str
    parameters : mapping
        Values for the notebook's parameters.
    gpu : str or None
        None takes a T4 where the phase needs a GPU, else a CPU.
    limit : str, float or None
        Length of one session; None takes the phase's own.
    resume : str or None
        ``accept`` to resume with changed settings or data, ``anew`` to start again, once.
    by : str
        Who pushes: ``hand`` or ``dispatcher``.
    shard : str
        Part of the items, such as ``2/2``; empty for all.
    """

    slug: str
    parameters: Mapping[str, Any]
    gpu: str | None = None
    limit: str | float | None = None
    resume: str | None = None
    by: str = "hand"
    shard: str = ""


@dataclass
class Outcome:
    """How a push to Colab ended.

    Attributes
    ----------
    state : str
        ``complete``, ``budget``, ``held`` (runs bring nothing new), or ``waits`` (no runtime was to be had).
    runtimes, lost : int
        Runtimes that were started, and those that were lost.
    words : str
    """

    slug: str
    state: str = ""
    runtimes: int = 0
    lost: int = 0
    hours: float = 0.0
    units: float = 0.0
    words: str = ""

    @property
    def exit_code(self) -> int:
        """0 complete, 1 held, 3 stopped with work left."""
        return {"complete": 0, "held": 1}.get(self.state, 3)

    def row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class Supervisor:
    """Start runtimes for one phase and watch them.

    Parameters
    ----------
    colab : Colab
    store : Store
        Store of the run; Colab must be able to reach it.
    order : Order
    budget : Budget
    say : callable
        Prints one line.
    clock, sleep : callable
        Seconds of a clock, and a wait.
    patience : float
        Seconds that a runtime is waited for.

    Raises
    ------
    UsageError
        If Colab cannot reach the store, or the order is not valid. Nothing is begun then.
    """

    def __init__(
        self,
        colab: Colab,
        store: Store,
        order: Order,
        budget: Budget,
        say: Callable[[str], object] = print,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self.colab, self.store, self.order, self.budget = colab, store, order, budget
        self.say, self.clock, self.sleep, self.patience = say, clock, sleep, patience
        self.phase: Phase = find_phase(order.slug)
        self.address = reachable(store.url, "Colab")
        self.name = f"nbkit-{self.phase.kaggle_folder}"
        self.gpu = check_gpu(order.gpu) if order.gpu else "T4" if self.phase.accelerator == "gpu" else None
        self.hours = (parse_duration(order.limit) or 0) / 3600 if order.limit is not None else self.phase.session_hours
        if self.hours > WALL - ROOM:
            raise UsageError(
                f"A session of {self.hours:g} h is too long for Colab, which ends each runtime at {WALL:g} h. Use at "
                f"most --limit {WALL - ROOM:g}h. Nothing was begun."
            )
        if checkout() is None:
            raise UsageError("A push to Colab builds nbkit's wheel from a checkout. Run it there. Nothing was begun.")
        self._copy(0.5)  # a wrong parameter must not cost a runtime
        self._secrets = credential_files(self.address)
        self.outcome = Outcome(order.slug)

    def _copy(self, hours: float) -> dict[str, Any]:
        notebook = home() / "notebooks" / self.phase.notebook
        refuse_options(self.order.parameters, {"STORE": "--store", "LIMIT": "--limit"})
        given = {"STORE": self.address, "LIMIT": f"{3600 * hours:.0f}s", **self.order.parameters}
        if self.order.shard:
            given |= {"SHARD": self.order.shard}
        if self.order.resume is not None:
            require_names(notebook, ("RESUME",))
            fresh = f"fresh-{max([1, *stored_runs(self.store, self.order.slug)])}"
            given["RESUME"] = fresh if self.order.resume == ANEW else self.order.resume
        require_names(notebook, ("STORE", "LIMIT"))
        return pushed_copy(notebook, given, set_up=None)

    def run(self) -> Outcome:
        """Start one runtime after another, and return how it ended.

        Raises
        ------
        NbkitError
            If the client or the store refuses for good; no runtime is left behind.
        """
        fruitless = 0
        while True:
            done, step, complete = self._progress()
            if complete:
                return self._end("complete", "the phase is complete")
            if fruitless >= _FRUITLESS:
                words = f"its last {fruitless} runs brought nothing new; the last one said: {self._last}"
                return self._end("held", words)
            if not self.budget.granted(self.hours):
                return self._end("budget", f"the budget is spent: {self.budget.words()}")
            try:
                by_itself = self._one_runtime(done, step)
            except ColabError as error:
                if error.kind != "none to be had":
                    raise
                return self._end("waits", str(error))
            if by_itself is None:
                return self._end("budget", f"what is left of the budget is too short: {self.budget.words()}")
            now = self._progress()
            fruitless = fruitless + 1 if by_itself and now == (done, step, False) else 0

    def _end(self, state: str, words: str) -> Outcome:
        o = self.outcome
        o.state, o.hours, o.units = state, self.budget.used_hours, self.budget.used_units
        lost = f", {o.lost} of them lost," if o.lost else ""
        o.words = f"{o.slug}: {words}. {counted(o.runtimes, 'runtime')}{lost} {self.budget.words()}"
        return o

    def _progress(self) -> tuple[int, int, bool]:
        (row,) = read_status(self.store, [self.order.slug])
        return row.done, row.step, row.state.startswith("complete")

    # -- one runtime ---------------------------------------------------------------------------------------------------

    def _one_runtime(self, done: int, step: int) -> bool | None:
        """Return whether its run ended by itself; None where the budget does not suffice for one."""
        if self.name in self._patiently(self.colab.runtimes):
            self.say(f"The runtime {self.name} of an earlier push still runs; joining it.")
        else:
            start = lambda: self.colab.new(self.name, self.gpu)  # noqa: E731
            wait_for(start, self.say, self.patience, PAUSE, self.clock, self.sleep)
        began = self.clock()
        rate, before = 0.0, 0.0
        push, record = None, ""
        self._last, lost = "", False
        log: list[str] = []
        try:
            units = self._patiently(self.colab.units)
            rate, before = units.rate, units.balance
            hours = self.budget.granted(self.hours, rate)
            if not hours:
                return None
            push = Push(
                self.order.slug, self.name, "https://colab.research.google.com", 0, began, hours, self.gpu is not None,
                self.order.by, done, step, "colab", rate * hours, self.order.shard,
            )  # fmt: skip
            record = record_push(self.store, push)
            self.outcome.runtimes += 1
            where = self.gpu or "a CPU"
            self.say(f"{self.name}: a runtime on {where} for at most {hours:.2f} h; {self.budget.words()}")
            return self._watch(self._bring(hours), began + 3600 * hours - _STOPPING, log)
        except ColabError as error:
            lost = True
            self.outcome.lost += 1
            self.say(f"{error} The next runtime goes on from the store.")
            return False
        finally:
            self._stop()
            lasted = (self.clock() - began) / 3600
            spent = self.budget.spend(lasted, rate, max(0.0, before - self._balance(before)))
            self._last = " / ".join([line.strip() for line in log if line.strip()][-_LINES:-1])[-_MOST:]
            if push is not None:
                self._note_end(replace(push, hours=lasted, units=spent, lost=lost), record, log)

    def _bring(self, hours: float) -> str:
        """Bring wheel, credential and notebook to the machine; return the code that runs the notebook there."""
        with tempfile.TemporaryDirectory(prefix="nbkit-colab-") as scratch:
            folder = Path(scratch)
            folder.chmod(0o700)
            files = [build_wheel(folder)]
            copy = folder / self.phase.notebook
            copy.write_text(json.dumps(self._copy(hours - ROOM if hours > 2 * ROOM else hours / 2)), "utf-8")
            files.append(copy)
            for name, content in self._secrets.items():
                (folder / name).touch(0o600)
                (folder / name).write_bytes(content)
                files.append(folder / name)
            for file in files:
                self._patiently(lambda file=file: self.colab.upload(self.name, file, f"{FOLDER}/{file.name}"))
        cells = read_notebook(home() / "notebooks" / self.phase.notebook)["cells"]
        extras = extras_of("".join(cell["source"] for cell in cells if cell["id"] == "set-up"))
        return Told(self.name, self.phase.notebook, self.address, tuple(extras), tuple(self._secrets)).code()

    def _watch(self, code: str, deadline: float, log: list[str]) -> bool:
        """Execute the code and join the run again whenever the connection breaks; return whether it ended by itself."""
        looked = self.clock()

        def note(line: str) -> None:
            log.append(line)
            self.say(line)

        def going_on() -> bool:
            nonlocal looked
            if self.clock() >= deadline:
                return False
            if self.clock() - looked >= LOOK:
                looked = self.clock()
                return self._is_there()
            return True

        tries, completed = 0, None
        while True:
            shown, tries = len(log), tries + 1
            try:
                printed = self.colab.execute(self.name, code, note, going_on)
            except ColabError as error:
                printed = "\n".join(log[shown:])
                self.say(f"The connection to {self.name} broke: {error}")
            if ended(printed)[0]:
                return True
            if self.clock() >= deadline:
                self.say(f"{self.name} has used the time that it was given.")
                return False
            if not self._is_there():
                raise ColabError(f"The runtime {self.name} is gone.", "lost")
            if self._progress()[2]:
                # joined again all the same: stopped now, the machine could not store the executed notebook any more
                completed = self.clock() if completed is None else completed
                if self.clock() - completed >= _ENDING:
                    self.say(f"{self.name} is complete, but its end was not heard in {_ENDING:.0f} s.")
                    return True
            self.sleep(min(LOOK, _AGAIN * 2 ** min(tries, 10)))

    def _is_there(self) -> bool:
        """Return whether the runtime still runs; True where Colab does not answer."""
        try:
            return self.name in self._patiently(self.colab.runtimes)
        except ColabError:
            return True

    def _patiently(self, call: Callable[[], Any], tries: int = 5) -> Any:
        """Make a call again after a fault that may pass."""
        for attempt in range(1, tries + 1):
            try:
                return call()
            except ColabError as error:
                if error.kind != "failed" or attempt == tries:
                    raise
                self.sleep(min(60.0, 2.0**attempt))

    def _balance(self, before: float) -> float:
        try:
            return self._patiently(self.colab.units, 2).balance
        except NbkitError:
            return before  # the rate and the hours decide

    def _stop(self) -> None:
        try:
            self._patiently(lambda: self.colab.stop(self.name))
        except NbkitError as error:
            self.say(f"The runtime {self.name} may go on and use the account: end it with 'colab stop'. {error}")

    def _note_end(self, push: Push, record: str, log: list[str]) -> None:
        """Store what the runtime used, and its log."""
        with tempfile.TemporaryDirectory(prefix="nbkit-colab-") as folder:
            used, words = Path(folder, "push.json"), Path(folder, "log")
            write_json(used, push.row())
            words.write_text("".join(f"{line}\n" for line in log), "utf-8")
            log_name = record.replace("/pushes/", "/colab/").removesuffix(".json") + ".log"
            try:
                put_together(self.store, [(used, record), (words, log_name)])
            except NbkitError as error:  # the record still has what the runtime was given, which is more
                self.say(f"The end of {self.name} could not be stored: {error}")
