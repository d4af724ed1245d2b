"""Fresh Python processes for the trials of a proof.

Two interpreters are started at once, each with another seed of Python's hashes, as two sessions have. Each forks one
process for a trial before anything of the user's is loaded, so that a trial costs no import of torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import NbkitError

_STRING_HASHES = ("1", "2")


class Interpreters:
    """Two interpreters that run trials.

    Parameters
    ----------
    log : Path
        File for what they print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._started: dict[int, tuple[subprocess.Popen, int]] = {}

    def __enter__(self) -> Interpreters:
        for number in range(len(_STRING_HASHES)):
            self._start(number)
        return self

    def _start(self, number: int) -> None:
        read, write = os.pipe()
        variables = {
            # the same objects in another order of sets is what another session has
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", _STRING_HASHES[number]),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # what torch.compile has made for one trial serves the others, too
            "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(self._log.parent / "compiled")),
        }
        with open(self._log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nbkit.runtime.training.proving.trial", str(write)],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                start_new_session=True,  # with all of its forks it can be ended by one signal
            )
        os.close(write)
        self._started[number] = (process, read)

    def run(self, number: int, job: dict[str, Any], seconds: float) -> int:
        """Run a trial in an interpreter, and return the code that it ended with; negative for a signal.

        Raises
        ------
        NbkitError
            If the trial takes longer than `seconds`, or the interpreter ends.
        """
        process, replies = self._started[number]
        job = {**job, "log": str(self._log), "deadline": seconds}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        end, answer = time.monotonic() + seconds, b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([replies], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise NbkitError(
                    f"A trial of the proof did not end within {seconds:.0f} s. Nothing of the training was changed. "
                    "Prove with fewer steps (steps=10), smaller sizes, or more time (limit='10min')."
                )
            part = os.read(replies, 64)
            if not part:
                raise NbkitError(f"A process of the proof ended by itself: {self.last_words()}")
            answer += part
        return int(answer)

    def last_words(self) -> str:
        """Return the end of the log."""
        return self._log.read_text("utf-8", "replace")[-800:].strip() if self._log.is_file() else ""

    def __exit__(self, *error: object) -> None:
        for process, replies in self._started.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            os.close(replies)
        self._started.clear()
