"""What this machine can do at most: the bound that a measurement stands under where there is one.

Each is measured in the run that names it, on the same disk and the same core.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def copy_rate(size: int = 64 << 20) -> float:
    """Return how fast one core copies memory that no cache holds, in bytes/s."""
    import numpy as np

    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    target[:] = source
    return size / _median(lambda: np.copyto(target, source))


def write_rate(folder: Path, size: int = 128 << 20) -> float:
    """Return how fast a file is written and synced in this folder, in bytes/s."""
    path, block = folder / "limit-of-writing", os.urandom(1 << 20)

    def write() -> None:
        with open(path, "wb") as file:
            for _ in range(size >> 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    try:
        return size / _median(write, turns=3)
    finally:
        path.unlink(missing_ok=True)


def append_seconds(folder: Path, size: int, sync: bool) -> float:
    """Return the time to append `size` bytes to an open file, synced or handed to the system."""
    path, record = folder / "limit-of-appending", bytes(size)
    with open(path, "ab", buffering=0) as file:

        def append() -> None:
            file.write(record)
            if sync:
                os.fsync(file.fileno())

        seconds = _median(append, turns=30 if sync else 2000)
    path.unlink()
    return seconds


def _median(call: Callable[[], object], turns: int = 7) -> float:
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
