"""A process that puts one file into a Drive store, watches its own memory, and can be killed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from nbkit.runtime.store.drive.store import DriveStore


def memory(word: str) -> int:
    """Give VmRSS (now) or VmHWM (highest so far) of this process in bytes; getrusage would count the parent's."""
    return int(re.search(rf"{word}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def main() -> None:
    """Put argv[2] under the name argv[3] into the folder argv[1] in chunks of argv[4] bytes; print the memory."""
    folder, path, name, chunk = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    store = DriveStore(folder, chunk=chunk, first_wait=0.05)
    store.space()  # the libraries are loaded and the login is made before the memory is looked at
    start = memory("VmRSS")
    stat = store.put(path, name)
    print(json.dumps({"start": start, "peak": memory("VmHWM"), "checksum": stat.checksum}), flush=True)


if __name__ == "__main__":
    main()
