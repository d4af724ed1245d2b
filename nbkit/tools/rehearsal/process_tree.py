"""A process and all that it started, killed together and without warning.

A kernel lives in a process group of its own and its loaders' workers outlive a killed parent, so nothing but a walk
over the tree and a mark in their environment reaches them. Only processes that descend from the one given, by parents
or by that mark, are ever touched.
"""

from __future__ import annotations

import contextlib
import signal
import time

import psutil

_STABLE_LOOKS = 20
_GONE_WITHIN = 10.0  # seconds


class ProcessTree:
    """Follow a process and its descendants.

    Parameters
    ----------
    pid : int
        A child of this process.
    mark : tuple of str or None
        (name, value) of an environment variable that was given to this child alone: it finds those whose parents
        ended before anyone looked.
    """

    def __init__(self, pid: int, mark: tuple[str, str] | None = None) -> None:
        self._mark = mark
        self._known: dict[int, psutil.Process] = {pid: psutil.Process(pid)}

    def look(self) -> list[psutil.Process]:
        """Take note of who is there now, and give those that are alive."""
        for process in list(self._known.values()):
            with contextlib.suppress(psutil.Error):
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
        # is_running() compares start times, so a process id that the system gave to another is not mistaken
        return [process for process in self._known.values() if _alive(process)]

    def kill(self) -> int:
        """Kill all of them with SIGKILL, at one moment; give how many there were."""
        seen: set[int] = set()
        for _ in range(_STABLE_LOOKS):
            self._look_for_mark()
            alive = self.look()
            fresh = [process for process in alive if process.pid not in seen]
            if not fresh:
                break
            # stopped first, so that none starts another between the look and the kill
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
        end = time.monotonic() + _GONE_WITHIN
        while any(_alive(process) for process in self._known.values()) and time.monotonic() < end:
            time.sleep(0.005)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
