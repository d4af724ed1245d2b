"""The other processes of a training that starts in a notebook or script.

They are new interpreters, never forks: a session has upload threads and has used its GPU, and neither survives a fork.
Each process receives the module, the data and the options through a file without a name, joins rank 0, which runs in
the notebook's own process, and ends with it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts import environment
from nbkit.runtime.training.protocol import TrainingSession, device_of
from nbkit.runtime.training.ranks.world import World

_HERE = "127.0.0.1"
START = 600.0  # seconds; importing on a busy machine takes long
_LEAVE = 10.0
_LAST_WORDS = 3.0
_TAIL = 12


class Helpers:
    """Start the other processes of this machine, and end all of them on exit.

    Parameters
    ----------
    world : World
        This process's; rank 0.
    session : TrainingSession
    parts : mapping
        Their arguments of `fit`.
    """

    def __init__(self, world: World, session: TrainingSession, parts: Mapping[str, Any]) -> None:
        self.world, self.session = world, session
        self._parts = parts
        self._processes: dict[int, subprocess.Popen] = {}
        self._store: Any = None
        self._undo = contextlib.ExitStack()

    def log(self, rank: int) -> Path:
        """Return the log file of a process."""
        return Path(self.session.folder) / f"rank-{rank}.log"

    def __enter__(self) -> Helpers:
        import torch
        import torch.distributed as dist

        content = _pickled(self._parts, self.session)
        threads = max(1, torch.get_num_threads() // self.world.local_size)
        told = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
        told = {name: os.environ.get(name, value) for name, value in told.items()}
        if sys.platform != "linux":
            del told["GLOO_SOCKET_IFNAME"]
        self._undo.enter_context(environment(told))
        self._undo.enter_context(_threads(threads))
        self._store = dist.TCPStore(_HERE, 0, is_master=True, wait_for_workers=False)
        try:
            with tempfile.TemporaryFile(dir=self.session.folder) as file:
                file.write(content)
                file.flush()
                del content
                for rank in range(1, self.world.size):
                    self._start(rank, file.fileno())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self, rank: int, handle: int) -> None:
        world = replace(self.world, rank=rank, local_rank=rank, starts=False)
        told = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world.size, "LOCAL_WORLD_SIZE": world.local_size,
            "MASTER_ADDR": _HERE, "MASTER_PORT": self._store.port,
            # they can import everything that this process can
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        with open(self.log(rank), "wb") as log:
            self._processes[rank] = subprocess.Popen(
                [sys.executable, "-m", "nbkit.runtime.follower", str(handle)],
                env={**os.environ, **{name: str(value) for name, value in told.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[handle],
                start_new_session=True,  # Ctrl+C reaches rank 0 only, which then stops them
            )

    def meet(self) -> Any:
        """Wait until all processes have started, and return the store through which they connect.

        Raises
        ------
        NbkitError
            If one ended before.
        """
        end = time.monotonic() + START
        for rank, process in self._processes.items():
            while not self._store.check([f"up/{rank}"]):
                if process.poll() is not None or time.monotonic() > end:
                    raise NbkitError(
                        f"Rank {rank} did not start{self.last_words() or f' within {START:.0f} s'}. Nothing was "
                        "trained."
                    )
                time.sleep(0.02)
        return self._store

    def last_words(self) -> str:
        """Return how failed processes ended, and the last lines of their logs."""
        found = []
        for rank, process in self._processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_LAST_WORDS)
                if code == -signal.SIGKILL:
                    found.append(f" (rank {rank} was killed by SIGKILL, most often because memory ran out)")
                elif code:
                    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                    lines = self.log(rank).read_text("utf-8", "replace").strip().splitlines()[-_TAIL:]
                    found.append(f" (rank {rank}: {how}; {self.log(rank)} ends:\n{os.linesep.join(lines)})")
        return "".join(found)

    def __exit__(self, *error: object) -> None:
        end = time.monotonic() + _LEAVE
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
        self._store = None
        self._undo.close()


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pickled(parts: Mapping[str, Any], session: TrainingSession) -> bytes:
    """Pickle what the others need, including classes and functions that are defined in notebook cells."""
    try:
        import cloudpickle
    except ImportError:  # joblib brought its own copy before it asked for this one
        from joblib.externals import cloudpickle

    parts = dict(parts)
    if getattr(parts["data"], "trainer", None) is not None:  # of an earlier fit
        parts["data"] = copy.copy(parts["data"])
        parts["data"].trainer = None
    chosen = device_of(session)
    device = {name: getattr(chosen, name) for name in ("accelerator", "count", "name", "precision", "reason")}
    facts = {"slug": session.slug, "seed": session.seed, "folder": str(session.folder), "device": device}
    try:
        return cloudpickle.dumps((facts, parts))
    except Exception as error:
        raise UsageError(
            f"The module, the data or a callback cannot be sent to the processes of the other devices: {error}. "
            "Keep open files, locks and connections out of them, or open them in setup(). Nothing was trained."
        ) from error
