"""The machine's own limits: memory, disk and sync, which other measurements stand beside"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

from tests.bench.limits import append_seconds, copy_rate, write_rate
from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure them on the disk where the other measurements write."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("NBKIT_BENCH_FOLDER")) as name:
        folder, size = Path(name), (32 if quick else 256) << 20
        return [
            Row("copy memory, one core", copy_rate() / 1e9, "GB/s"),
            Row("write a file and sync it", write_rate(folder, size) / 1e6, "MB/s", note=f"{size >> 20} MiB"),
            Row("append 100 bytes", 1e6 * append_seconds(folder, 100, sync=False), "us", "with fsync",
                1e6 * append_seconds(folder, 100, sync=True)),
            Row("SHA-256, one core", _hash_rate() / 1e6, "MB/s", note="what every put and get is checked with"),
        ]  # fmt: skip


def _hash_rate() -> float:
    data = bytes(64 << 20)
    began = time.perf_counter()
    hashlib.sha256(data).digest()
    return len(data) / (time.perf_counter() - began)
