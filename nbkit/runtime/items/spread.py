"""The item loop through an executor: its workers compute, this process saves and records.

Any `concurrent.futures.Executor` can be used: processes of this machine, or a cluster such as Dask's
``client.get_executor()``. Scheduling is the executor's task; this module keeps the ledger correct. Only this process
records an item, and does so once, whatever happens to the workers. Items that they work on during a kill are done
again.

Workers send arrays and text as they are. Of a file they send path and checksum, and a file that is not the same on this
machine is rejected: on another machine, the path may name nothing or another file.

Beyond one machine
------------------
With Dask, on machines that have this very code installed::

    from dask.distributed import Client

    client = Client("tcp://scheduler:8786")
    session.map(process, rows, executor=client.get_executor())

If a worker dies, Dask gives its items to another one. An item at which four workers died is returned as a
``KilledWorker`` error and recorded as failed; a later session tries it again, as after any other failure.

With Slurm, each item a job: see `nbkit.runtime.items.jobs`.

With Modal's containers, each item a call: see `nbkit.runtime.items.containers`.
"""

from __future__ import annotations

import math
import os
import pickle
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import no_file, sha256_of
from nbkit.runtime.beside.living import whereabouts
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.items.loop import ItemLoop
from nbkit.runtime.items.watching import interrupted_after
from nbkit.runtime.items.work import Item, pending
from nbkit.runtime.ledger.manifest import Manifest

_LONGEST = 1e9  # seconds, for a session without a limit
Process = Callable[[Mapping[str, str]], Mapping[str, Any]]


@dataclass(frozen=True)
class FileClaim:
    """Size and checksum of a file on the machine that wrote it."""

    path: str
    size: int
    sha256: str
    machine: str

    def here(self) -> Path:
        """Return the file's path, after checking that this machine has the same file there.

        Raises
        ------
        UsageError
            If there is no file here, or another one.
        """
        path = Path(self.path)
        if path.is_file() and path.stat().st_size == self.size and sha256_of(path) == self.sha256:
            return path
        what = no_file(path)
        found = f"another file, of {path.stat().st_size} bytes" if what is None else "nothing"
        if what not in (None, "does not exist"):
            found = f"what {what}"
        raise UsageError(
            f"The worker on {self.machine} made {self.path} ({self.size} bytes), and under that path this machine has "
            f"{found}. Only arrays and text are sent: return the content as an array (numpy.fromfile(path, 'uint8')), "
            "or write the file to a disk that both machines share. The item is not recorded as done."
        )


@dataclass(frozen=True)
class Working:
    """Function that runs on a worker, with its time and checksums of the files that it wrote.

    Attributes
    ----------
    process : callable
    limit : float or None
        Seconds after which an item is interrupted, where it runs in a main thread, as in a pool of processes.
    left : float
        Seconds that were left of the session when it was sent off.
    sent : float
        When that was, on the clock that no one can set; other machines have another, so for them it counts from when
        they begin.
    machine : str
        The machine of that clock.
    """

    process: Process
    limit: float | None = None
    left: float = math.inf
    sent: float = 0.0
    machine: str = ""

    def __call__(self, row: Mapping[str, str]) -> tuple[dict[str, Any], float]:
        began = time.monotonic()
        waited = began - self.sent if self.machine == _clock() else 0.0
        fault: Exception | None = None
        try:
            with interrupted_after(row.get("key", ""), self.limit, self.left - waited):
                made = {
                    name: _claim(Path(value)) if isinstance(value, os.PathLike) else value
                    for name, value in self.process(row).items()
                }
        except Exception as error:  # raised below
            fault = _sendable(error)
        if fault is not None:  # raised here, without the first error as its context, which Dask would send, too
            raise fault
        return made, time.monotonic() - began


class WorkerError(Exception):
    """An error of a worker whose own class cannot be sent to this process."""


def _sendable(error: Exception) -> Exception:
    """Return an error, or its text where it cannot be sent: some classes cannot be made again from their message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of the pickling; the error itself is sent as text
        return WorkerError("".join(traceback.format_exception(error)))
    return error


def _clock() -> str:
    """Return a name of this machine's clock since it was started; processes of one machine share it."""
    here = whereabouts()
    return f"{here['machine']} {here['boot']}"


def _claim(path: Path) -> FileClaim:
    path = path.absolute()
    if (what := no_file(path)) is not None:
        raise FileNotFoundError(f"The function returned the file {path}, which {what}.")
    return FileClaim(str(path), path.stat().st_size, sha256_of(path), platform.node())


def workers_of(executor: Executor) -> int:
    """Return how many items an executor computes at a time, or a guess if it does not tell."""
    client = getattr(executor, "_client", None)  # of Dask, whose number of workers changes
    if client is not None and hasattr(client, "nthreads"):
        return max(1, sum(client.nthreads().values()))
    return getattr(executor, "_max_workers", None) or os.cpu_count() or 1


def spread(loop: ItemLoop, manifest: Manifest, process: Process, executor: Executor, at_once: int) -> Iterator[Item]:
    """Do the pending items through an executor; yield each when it is recorded.

    Parameters
    ----------
    process : callable
        ``process(row) -> {name: array or path}``; the workers must be able to import it.
    executor : concurrent.futures.Executor
        Of this machine or of a cluster.
    at_once : int
        Items in work at a time, which is also the most that a kill of this process can lose.

    Raises
    ------
    NbkitError
        If the executor broke, as when one of its processes was killed. Its items are not recorded as failed.
    """
    running: dict[Future, Item] = {}
    blame = loop.ledger.blame()
    positions = pending(loop.ledger, manifest, blame=blame, backwards=loop.backwards)
    batches = loop.claiming.batches(positions, manifest.keys, blame)
    ahead: list[int] = []
    batch: list[int] = []
    try:
        while True:
            while len(running) < at_once and loop.may_go_on("item"):
                if not ahead:
                    batch = batch or next(batches, [])
                    keys = _keys(manifest, batch)
                    if not batch or (running and not blame.suspects.keys().isdisjoint(keys)):
                        break  # a suspect waits until it is alone
                    loop.claiming.claim([*(item.key for item in running.values()), *keys])
                    ahead, batch = batch[::-1], []
                position = ahead.pop()
                row, digest = manifest.row(position), manifest.digest(position)
                left = min(loop.budget.left(), _LONGEST)
                working = Working(process, loop.watch.allowed(), left, time.monotonic(), _clock())
                item = running[executor.submit(working, row)] = Item(row, loop, digest)
                item.begun = time.monotonic()
            if not running:
                return
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            loop.claiming.beat()
            for future in finished:
                item = _take(loop, running[future], future)
                del running[future]  # not before: a broken executor is noticed here, with this item in it
                yield item
            if not finished and not loop.may_go_on(None):
                return
    except (BrokenExecutor, CancelledError) as error:
        if isinstance(error, BrokenExecutor):
            loop.claiming.broke(item.key for item in running.values())
        raise NbkitError(
            f"The executor broke off ({type(error).__name__}: {error or 'its work was cancelled'}): a worker was "
            "killed, most often because memory ran out, or the cluster went away. Its items are not recorded as failed "
            "and will be done again; everything recorded before is safe. Create a new executor and run again."
        ) from error
    finally:
        for future in running:
            future.cancel()
        loop.watch.hold({item.key: future.done for future, item in running.items()})
        loop.claiming.release()


def _keys(manifest: Manifest, positions: Iterable[int]) -> list[str]:
    return [manifest.keys[position] for position in positions]


def _take(loop: ItemLoop, item: Item, future: Future) -> Item:
    """Save and record the result of a worker, or its error."""
    error, seconds = future.exception(), 0.0
    if isinstance(error, BrokenExecutor):
        raise error
    if error is None:
        try:
            made, seconds = future.result()
            loop.watch.took(seconds)
            item.save(**{n: value.here() if isinstance(value, FileClaim) else value for n, value in made.items()})
        except Exception as fault:  # recorded as this item's failure, with its traceback
            error = fault
    item.leave(error, seconds, waited=time.monotonic() - item.begun)
    return item
