"""Whether an object of a library has changed, although a checkpoint cannot hold its state.

A data frame, a queue or a quasi-random engine has no state_dict, and what it consists of is its library's own affair.
Its pickle tells that it has changed, so that the user hears of it.
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

_MOST = 1 << 18  # bytes of a pickle; of a larger one nothing is known

# what shows or writes, and has no part in the training
SHOWS = {"tqdm", "rich", "matplotlib", "PIL", "logging", "io", "_io", "threading", "weakref", "IPython", "plotly"}


class _TooLarge(Exception):
    """Ends the pickling of a large object."""


class _Digest:
    """A file that keeps a digest of what is written into it."""

    def __init__(self) -> None:
        self.sha, self.size = hashlib.blake2b(digest_size=16), 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        if self.size > _MOST:
            raise _TooLarge
        self.sha.update(data)
        return size


def content_of(value: Any) -> str:
    """Return a digest of what an object holds, "" where that cannot be told."""
    kept = getattr(value, "qsize", None)  # queues hold locks
    if callable(kept) and type(value).__module__ in ("queue", "_queue"):
        return str(list(value.queue)) if hasattr(value, "queue") else str(kept())
    counted = getattr(value, "get_obj", None)  # numbers in memory that processes share, which only they may pickle
    if callable(counted) and type(value).__module__ == "multiprocessing.sharedctypes":
        return repr(bytes(counted())[:_MOST])
    module = type(value).__module__
    # a distribution is made of the weights, which change and are saved
    if module.partition(".")[0] in SHOWS or module.startswith("torch.distributions"):
        return ""
    file = _Digest()
    try:
        pickle.Pickler(file, protocol=5).dump(value)
    except Exception:  # whatever a library's own pickling raises: then nothing is known of it
        return ""
    return file.sha.hexdigest()
