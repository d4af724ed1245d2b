"""The item loop through an executor: its workers compute, this process saves and records.

Any `concurrent.futures.Executor` will do: processes of this machine, or a cluster's, such as Dask's
``client.get_executor()``. Nothing here schedules work over machines; what is here keeps the ledger true. An item is
recorded by this process alone and once, whatever its workers went through; what was in their hands at a kill is done
again.

Arrays and text travel back by themselves. Of a file only its path does, so the worker says what the file holds, and a
file that is not the same here is refused in words: on another machine the path means nothing, or something else.

Beyond one machine
------------------
With Dask, on machines that have this very code installed::

    from dask.distributed import Client

    client = Client("tcp://scheduler:8786")
    session.map(process, rows, executor=client.get_executor())

Where a worker dies, Dask gives its items to another one; an item at which four workers died comes back as a
``KilledWorker`` and is recorded as failed, to be tried again in a later session like any other failure.

With Modal (https://modal.com), rented by the second, the same function runs in containers. This is a recipe that was
never run here, for it needs an account; it uses nothing but Modal's documented ``App``, ``Image`` and ``remote``::

    import modal

    app = modal.App("nbkit-burst")
    image = modal.Image.debian_slim(python_version="3.11").pip_install_from_pyproject("pyproject.toml")

    @app.function(image=image.add_local_python_source("nbkit"), gpu="T4", timeout=3600)
    def burst(row):
        return process(dict(row))  # arrays, not paths: the container's disk is gone when it ends

    with app.run():
        with concurrent.futures.ThreadPoolExecutor(32) as threads:  # each waits for one container
            session.map(burst.remote, rows, executor=threads)

The threads only wait, so the ledger, the uploads and the wall stay here, and a kill of either side loses what was in
work and nothing else.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.items.loop import ItemLoop
from nbkit.runtime.items.work import Item, pending
from nbkit.runtime.ledger.manifest import Manifest

Process = Callable[[Mapping[str, str]], Mapping[str, Any]]


@dataclass(frozen=True)
class FileClaim:
    """Say what a file holds on the machine that made it."""

    path: str
    size: int
    sha256: str
    machine: str

    def here(self) -> Path:
        """Return its path, once the file was found here as it was there.

        Raises
        ------
        UsageError
            Where it is not here, or is another.
        """
        path = Path(self.path)
        if path.is_file() and path.stat().st_size == self.size and sha256_of(path) == self.sha256:
            return path
        found = f"a file of {path.stat().st_size} bytes that is another" if path.is_file() else "nothing"
        raise UsageError(
            f"the worker on {self.machine} made {self.path} ({self.size} bytes), and under that path this machine has "
            f"{found}. Only arrays and text travel: return the content as an array (numpy.fromfile(path, 'uint8')), "
            "or write the file to a disk that both machines have. Nothing of the item is kept."
        )


@dataclass(frozen=True)
class Working:
    """Call a function on a worker, time it there, and claim the files that it made."""

    process: Process

    def __call__(self, row: Mapping[str, str]) -> tuple[dict[str, Any], float]:
        began = time.monotonic()
        made = {
            name: _claim(Path(value)) if isinstance(value, os.PathLike) else value
            for name, value in self.process(row).items()
        }
        return made, time.monotonic() - began


def _claim(path: Path) -> FileClaim:
    path = path.absolute()
    if not path.is_file():
        raise FileNotFoundError(f"the function gave the file {path}, which is not there.")
    return FileClaim(str(path), path.stat().st_size, sha256_of(path), platform.node())


def workers_of(executor: Executor) -> int:
    """Return how many items an executor computes at a time, as far as it tells."""
    client = getattr(executor, "_client", None)  # Dask's own; its workers come and go
    if client is not None and hasattr(client, "nthreads"):
        return max(1, sum(client.nthreads().values()))
    return getattr(executor, "_max_workers", None) or os.cpu_count() or 1


def spread(loop: ItemLoop, manifest: Manifest, process: Process, executor: Executor, at_once: int) -> Iterator[Item]:
    """Do the pending items through an executor, and give each when it is recorded.

    Parameters
    ----------
    process : callable
        ``process(row) -> {name: array or path}``; must be importable by the workers.
    executor : concurrent.futures.Executor
        Of this machine or of a cluster.
    at_once : int
        Items handed out and not yet back; bounds what a kill of this process can lose.

    Raises
    ------
    NbkitError
        Where the executor broke, as one of processes does when one of them is killed. Items that were in its hands
        are not recorded as failed.
    """
    running: dict[Future, Item] = {}
    positions, working = pending(loop.ledger, manifest), Working(process)
    exhausted = False
    try:
        while True:
            while not exhausted and len(running) < at_once and loop.may_go_on("item"):
                position = next(positions, None)
                if position is None:
                    exhausted = True
                    break
                row = manifest.row(position)
                item = running[executor.submit(working, row)] = Item(row, loop)
                item.begun = time.monotonic()
            if not running:
                return
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                yield _take(running.pop(future), future)
            if not finished and not loop.may_go_on(None):
                return
    except (BrokenExecutor, CancelledError) as error:
        raise NbkitError(
            f"the executor broke off ({type(error).__name__}: {error or 'its work was cancelled'}): a worker was "
            "killed, most often because memory ran out, or the cluster went away. What was in its hands is not "
            "recorded as failed and will be done again; all recorded before stands. Make a new executor and run again."
        ) from error
    finally:
        for future in running:
            future.cancel()


def _take(item: Item, future: Future) -> Item:
    """Save and record what a worker made, or its error."""
    error, seconds = future.exception(), 0.0
    if isinstance(error, BrokenExecutor):
        raise error
    if error is None:
        try:
            made, seconds = future.result()
            item.save(**{n: value.here() if isinstance(value, FileClaim) else value for n, value in made.items()})
        except Exception as fault:
            error = fault
    item.leave(error, seconds, waited=time.monotonic() - item.begun)
    return item
