"""Uploads beside work: items of 50 ms work and 50 ms upload, against one after the other and the ideal

The ideal is computed from the times that each piece of work and each upload really took in this run: what is lost
beside it is the loop's, the ledger's and the outbox's.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import time
from pathlib import Path

from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat
from tests.bench.rows import Row

_MEAN = 0.05  # seconds


def run(quick: bool) -> list[Row]:
    """Measure the loop's throughput with fixed and with exponential times."""
    n = 60 if quick else 300
    rows = []
    for kind, least in (("fixed", 0.97), ("exponential", 0.95)):
        rng = random.Random(7)
        draw = (lambda: _MEAN) if kind == "fixed" else (lambda rng=rng: rng.expovariate(1 / _MEAN))
        work, upload = [draw() for _ in range(n)], [draw() for _ in range(n)]
        ours, worked, uploaded = _ours(work, upload)
        ideal, serial = _ideal(worked, uploaded), sum(worked) + sum(uploaded)
        share = ideal / ours
        note = f"{n} items in {ours:.2f} s, ideal {ideal:.2f} s; {serial / ours:.2f} x faster than one after the other"
        rows.append(
            Row(f"overlap, {kind} times", share, "of the ideal", "one after the other", ideal / serial,
                f">= {least}", share >= least, note)
        )  # fmt: skip
    return rows


class _SlowStore(FolderStore):
    """Takes the drawn time for each item's output, and none for the ledger's segments."""

    def __init__(self, root: Path, seconds: dict[str, float]) -> None:
        super().__init__(root)
        self.seconds, self.took = seconds, dict.fromkeys(seconds, 0.0)

    def put(self, path: Path, name: str) -> Stat:
        began = time.perf_counter()
        stat = super().put(path, name)
        if name in self.seconds:
            time.sleep(max(0.0, self.seconds[name] - (time.perf_counter() - began)))
            self.took[name] = time.perf_counter() - began
        return stat


def _ours(work: list[float], upload: list[float]) -> tuple[float, list[float], list[float]]:
    """Return the seconds until all is in the store, and what each item's work and upload took of them."""
    names = [f"k{i:04d}" for i in range(len(work))]
    worked: list[float] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            seconds = {f"bench/items/{name}.npz": s for name, s in zip(names, upload, strict=True)}
            store = _SlowStore(Path(folder, "store"), seconds)
            session = open_session("bench", store, folder=Path(folder, "work"))
            began = time.perf_counter()
            for item, s in zip(session.work([{"key": name} for name in names]), work, strict=True):
                with item:
                    started = time.perf_counter()
                    item.save(x=[1.0])  # part of the work's 50 ms, as computing would be
                    time.sleep(max(0.0, s - (time.perf_counter() - started)))
                    worked.append(time.perf_counter() - started)
            assert session.outbox.drain(60) == []
            taken = time.perf_counter() - began
            session.close()
    return taken, worked, list(store.took.values())


def _ideal(work: list[float], upload: list[float], threads: int = 2) -> float:
    """Return the seconds that the same items take where nothing costs anything but the drawn times."""
    now, free = 0.0, [0.0] * threads
    for w, u in zip(work, upload, strict=True):
        now += w
        free.sort()
        free[0] = max(free[0], now) + u
    return max(now, *free)
