"""Bring every run of the list to completion: sessions one after another, several stores side by side.

What is complete is noted in a file and not run again, so the command may be killed at any time. A session that was
killed is continued by the next from what its store holds, as everywhere in nbkit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import make_folder, write_json
from nbkit.ground.home import import_folder
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.training.bounds.options import WHOLE
from nbkit.tools.results.listing import Plan, Run
from nbkit.tools.results.session import ENDED

LEFT = 3  # exit code of a session with work left
MOST_SESSIONS = 20  # of one run, in one call
# one thread: other numbers of threads add in another order, and the last bits of all scores would differ
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Folders:
    """Where things are: the data, the stores of all runs, and the records of their sessions."""

    data: Path
    stores: Path

    def store(self, run: Run) -> Path:
        """Return the store of a run."""
        return self.stores / run.store

    def record(self, run: Run) -> Path:
        """Return the file with a line for each session of a run that began or ended."""
        return self.stores / "runs" / f"{run.name}.jsonl"

    def done(self, run: Run) -> Path:
        """Return the file that is there once a run is complete."""
        return self.stores / "runs" / f"{run.name}.done.json"

    def log(self, run: Run) -> Path:
        """Return the file with what the sessions of a run printed."""
        return self.stores / "runs" / f"{run.name}.log"


def missing_data(plan: Plan, run: Run, folders: Folders) -> list[str]:
    """Return the sets of data that a run and the runs before it in its store lack, in words."""
    upstream = [other for other in plan.runs if other.store == run.store or other.name in run.after]
    place = plan.runs.index(run)
    needed = [name for other in upstream if plan.runs.index(other) <= place for name in other.data]
    about = {one.folder: one.about for one in plan.data}
    return [f"{name}: {about[name]}" for name in dict.fromkeys(needed) if not (folders.data / name).is_dir()]


def is_complete(run: Run, folders: Folders) -> bool:
    """Return whether a run is complete.

    Raises
    ------
    UsageError
        If it is complete with other parameters than those of the list.
    """
    path = folders.done(run)
    if not path.is_file():
        return False
    if (found := json.loads(path.read_text("utf-8"))).get("digest") != run.digest():
        raise UsageError(
            f"{run.name} was run with other parameters than those of the list now, on which {found.get('list')} was "
            f"based. Give another --store, or remove {folders.store(run)} and {folders.stores / 'runs'}. Nothing was "
            "begun."
        )
    return True


def run_all(plan: Plan, folders: Folders, workers: int = 2, say: Callable[[str], None] = print) -> None:
    """Run everything whose data are there, ``workers`` stores side by side.

    Raises
    ------
    NbkitError
        If a session fails; the runs beside it end first. What is complete stays so.
    """
    make_folder(folders.stores / "runs")
    todo = [run for run in plan.runs if not is_complete(run, folders) and not missing_data(plan, run, folders)]
    going: dict[Future[None], Run] = {}
    failed: list[Future[None]] = []
    with ThreadPoolExecutor(workers) as pool:
        while going or (todo and not failed):
            for run in [] if failed else ready(todo, going.values())[: workers - len(going)]:
                todo.remove(run)
                going[pool.submit(bring_to_end, run, plan, folders, say)] = run
            done, _ = wait(going, return_when=FIRST_COMPLETED)
            for one in done:
                going.pop(one)
                failed += [one] if one.exception() is not None else []
    for one in failed:
        one.result()


def ready(todo: Iterable[Run], going: Iterable[Run]) -> list[Run]:
    """Return the runs that can begin: no earlier run of their store and none that they name is left or at work."""
    todo, going = list(todo), list(going)
    found = []
    for place, run in enumerate(todo):
        before = [*going, *todo[:place]]
        if not any(other.store == run.store or other.name in run.after for other in before):
            found.append(run)
    return found


def bring_to_end(run: Run, plan: Plan, folders: Folders, say: Callable[[str], None]) -> None:
    """Run sessions of one run until it is complete, and note that it is."""
    work = folders.stores / "work" / run.store
    make_folder(work)
    asked = {
        "notebook": run.notebook, "store": str(folders.store(run)), "folder": str(work),
        "parameters": run.given(data=folders.data, lists=plan.path.parent, stores=folders.stores),
        "record": str(folders.record(run)),
    }  # fmt: skip
    for _ in range(MOST_SESSIONS):
        began = time.monotonic()
        with open(folders.record(run), "a", encoding="utf-8") as record:
            record.write(json.dumps({"event": "began"}) + "\n")
        code = _session(asked, folders.log(run))
        say(f"{run.name}: a session of {time.monotonic() - began:.0f} s, {_ENDS.get(code, f'failed ({code})')}")
        if code == 0:
            write_json(folders.done(run), {"digest": run.digest(), "list": plan.path.name})
            return
        if code != LEFT:
            raise NbkitError(
                f"{run.name} ({run.notebook}) failed. {_last_lines(folders.log(run))} All it printed is in "
                f"{folders.log(run)}. What is complete is kept; mend the cause and run the same command again."
            )
    raise NbkitError(f"{run.name} was not complete after {MOST_SESSIONS} sessions. Run the same command again.")


_ENDS = {0: "complete", LEFT: "work left"}


def _session(asked: dict[str, Any], log: Path) -> int:
    variables = os.environ | dict.fromkeys(_ONE_THREAD, "1")
    path = [str(import_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables |= {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "0", WHOLE: "whole"}
    with open(log, "ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "nbkit.tools.results.session"], env=variables, stdin=subprocess.PIPE, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        child.stdin.flush()
        try:
            return child.wait()
        finally:
            child.stdin.close()
            child.wait()


def _last_lines(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return f"It said: {(errors or lines or ['nothing'])[-1].strip()[:600]}"


def usage(run: Run, folders: Folders) -> tuple[int, int, float]:
    """Return how many sessions of a run began, how many of them were killed, and the CPU time of the others in s."""
    path = folders.record(run)
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may tear the last one
    ended = [row for row in rows if row.get("event") == ENDED]
    began = len(rows) - len(ended)
    return began, began - len(ended), sum(float(row.get("cpu_s", 0)) for row in ended)
