"""Threads of nbkit's own, for which a process without memory is no mistake.

Where memory ends, a thread may die before its first line could catch anything. Python then prints a traceback, and who
waits for the thread waits for ever. Such a thread ends here with one line, and whoever waits looks whether it is alive.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

_ENDED = "[nbkit] A helper thread ended because memory ran out; it is started again when it is needed.\n"


class Background(threading.Thread):
    """A thread that ends in words where memory ends.

    Parameters
    ----------
    target : callable
    *args
        What it is called with.
    name : str
    daemon : bool
        False where the interpreter has to wait for it at its end.
    """

    def __init__(self, target: Callable[..., Any], *args: Any, name: str, daemon: bool = True) -> None:
        super().__init__(target=target, args=args, name=name, daemon=daemon)

    def run(self) -> None:
        """Call the target."""
        try:
            super().run()
        except MemoryError:
            with contextlib.suppress(MemoryError, OSError, ValueError):  # a closed stream, too
                sys.stderr.write(_ENDED)
