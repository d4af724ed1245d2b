"""Children made by fork: a test that kills needs a process of its own, and a fresh interpreter takes seconds."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path


def fork(work: Callable[[], object], log: Path | None = None) -> int:
    """Run a function in a forked child and give its process id; exit code 0, or 1 with the traceback in the log."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(log or os.devnull, "a", encoding="utf-8", buffering=1)
        work()
        code = 0
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap(pid: int, seconds: float = 60.0) -> int:
    """Wait for a child and give its exit code, or minus the signal that ended it; SIGKILL when the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until(so: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds; the seconds are a guard against hanging, not a measure."""
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end, f"this did not come about within {seconds:g} s"
        time.sleep(0.005)


def die() -> None:
    """End this process as a host does."""
    os.kill(os.getpid(), signal.SIGKILL)
