"""Process trees: kill a process and all its descendants together, without warning.

A Jupyter kernel has its own process group, and the workers of its data loaders survive a killed parent. To reach them
all, the tree is walked, and a variable in their environment marks those whose parents are gone. Only descendants of the
given process, found by their parents or by this mark, are ever killed.
"""

from __future__ import annotations

import contextlib
import signal
import time

import psutil

_STABLE_LOOKS = 20
_KILL_TIMEOUT = 10.0  # seconds


class ProcessTree:
    """Follow a process and its descendants.

    Parameters
    ----------
    pid : int
        A child of this process.
    mark : tuple of str or None
        (name, value) of an environment variable that only this child was given. It finds descendants whose parents
        ended before the tree was first walked.
    """

    def __init__(self, pid: int, mark: tuple[str, str] | None = None) -> None:
        self._mark = mark
        self._known: dict[int, psutil.Process] = {pid: psutil.Process(pid)}

    def look(self) -> list[psutil.Process]:
        """Record the present descendants, and return the processes that are alive."""
        for process in list(self._known.values()):
            with contextlib.suppress(psutil.Error):
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
        # is_running() compares start times, so a process id that the system has reused is not mistaken for ours
        return [process for process in self._known.values() if _alive(process)]

    def kill(self) -> int:
        """Kill all of them with SIGKILL at the same time, and return how many were alive."""
        seen: set[int] = set()
        for _ in range(_STABLE_LOOKS):
            self._look_for_mark()
            alive = self.look()
            fresh = [process for process in alive if process.pid not in seen]
            if not fresh:
                break
            # all are stopped first, so that none can start another process before it is killed
            for process in fresh:
                seen.add(process.pid)
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGSTOP)
        alive = self.look()
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._wait()
        return len(alive)

    def _look_for_mark(self) -> None:
        if self._mark is None:
            return
        name, value = self._mark
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):  # other users' processes cannot be read
                if process.pid not in self._known and process.environ().get(name) == value:
                    self._known[process.pid] = process

    def _wait(self) -> None:
        end = time.monotonic() + _KILL_TIMEOUT
        while any(_alive(process) for process in self._known.values()) and time.monotonic() < end:
            time.sleep(0.005)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
