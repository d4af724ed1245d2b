"""One thread that writes checkpoints while training goes on.

At most one snapshot is with the writer; while it is, its buffers are not touched, and a save that comes due waits for
a later step. A failed write is never silent: it is said at once, and the last one of a session raises.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from nbkit.runtime.errors import NbkitError, StoreError

_NICE = 10  # on two cores a writer of equal rank doubles the length of the steps beside it


class Writer:
    """Run one job at a time in a thread of its own.

    Parameters
    ----------
    say : callable
        Prints one line.
    measured : callable
        Gets ("save", seconds) after every job.
    """

    def __init__(
        self, say: Callable[[str], None] = print, measured: Callable[[str, float], None] | None = None
    ) -> None:
        self.say, self.measured = say, measured or (lambda kind, seconds: None)
        self.fault: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], Any], hurry: bool = False) -> None:
        """Start a job; waits for the one before.

        Parameters
        ----------
        job : callable
        hurry : bool
            Whether somebody waits for it; else it leaves the processor to the training.
        """
        self.wait()
        # not a daemon: an interpreter that ends normally finishes the file first
        self._thread = threading.Thread(target=self._run, args=(job, hurry), name="checkpoint-writer")
        self._thread.start()

    def _run(self, job: Callable[[], Any], hurry: bool) -> None:
        began = time.monotonic()
        if not hurry and sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # on Linux a thread has its own
        try:
            job()
            self.fault = None
        except BaseException as error:
            self.fault = error
            self.say(f"saving failed: {worded(error)} Training goes on; earlier checkpoints are untouched.")
        self.measured("save", time.monotonic() - began)

    def wait(self) -> None:
        """Wait until the snapshot is on disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Wait, and raise what made the last write fail."""
        self.wait()
        fault, self.fault = self.fault, None
        if isinstance(fault, NbkitError):
            raise fault
        if fault is not None:
            raise StoreError(
                f"the last checkpoint of this session could not be written: {worded(fault)} Earlier checkpoints are "
                "untouched; the steps since then will be trained again. Free some space, then run again."
            ) from fault


def worded(error: BaseException) -> str:
    """Give an error as one sentence."""
    text = str(error) or type(error).__name__
    with contextlib.suppress(AttributeError):
        text = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else text
    return text if text.endswith(".") else text + "."
