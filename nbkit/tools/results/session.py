"""One session of a run, in a process of its own that ends with its parent, however the parent ends.

Called as ``python -m nbkit.tools.results.session`` with the description of the session on standard input. Standard
input stays open as long as the parent lives: when it closes, this process is killed, and its kernel ends by itself. So
a session never goes on beside the one that a second `nbkit results` begins.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from typing import Any, TextIO

from nbkit.runtime.errors import NbkitError

ENDED = "ended"


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended, in s."""
    every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in every)


def end_with_parent(parent: TextIO) -> None:
    """Wait until the parent's end of a pipe is closed, and kill this process."""
    parent.read()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run the session that standard input describes, and note its exit code and CPU time in its record."""
    from nbkit.tools.rehearsal.running import run_notebook

    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, args=(sys.stdin,), daemon=True).start()
    try:
        code = run_notebook(asked["notebook"], asked["parameters"], store=asked["store"], folder=asked["folder"])
    except NbkitError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    with open(asked["record"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": ENDED, "code": code, "cpu_s": round(cpu_seconds(), 1)}) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread above may still read


if __name__ == "__main__":
    main()
