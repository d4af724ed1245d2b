"""A process and all that it started, killed together and without warning.

A kernel lives in a process group of its own and its loaders' workers outlive a killed parent, so nothing but a walk
over the tree reaches them. Only processes seen as descendants of the one given are ever touched.
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
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._known: dict[int, psutil.Process] = {pid: self._root}

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

    def _wait(self) -> None:
        end = time.monotonic() + _GONE_WITHIN
        while any(_alive(process) for process in self._known.values()) and time.monotonic() < end:
            time.sleep(0.005)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
