"""Signals that end a run are handed on to its kernel, whose session then saves, closes and ends the notebook.

A container sends SIGTERM to its first process only, and a closed terminal SIGHUP to that of the command. Without this,
the command would end at once, and the kernel with it, before it could save.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import psutil

from nbkit.runtime.signals import ENDING


@contextlib.contextmanager
def handing_on() -> Iterator[list[str]]:
    """Hand signals on while the kernel runs; give the names of those that came."""
    came: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def hand_on(number: int, frame: FrameType | None) -> None:
        kernels = _kernels()
        if not kernels:  # none has started yet, or it has ended
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        came.append(signal.Signals(number).name)
        for kernel in kernels:
            with contextlib.suppress(psutil.Error):
                kernel.send_signal(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # not where it is ignored (nohup), or another part of nbkit listens
            signal.signal(number, hand_on)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _kernels() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "ipykernel_launcher" in child.cmdline():
                found.append(child)
    return found
