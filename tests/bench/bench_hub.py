"""The Hugging Face Hub through a loopback: commits, what a listing costs, and a storm of faults and kills.

Beside it stands what the Hub's own client offers for single files: its file system, which makes a commit a file. The
Hub is a process of its own on this machine. In the storm a session makes at most one commit a minute, as it does by
default; with --quick a minute is scaled to two seconds.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.store.hub import hub_storm
from tests.runtime.store.hub.hub_loopback import LoopbackProcess
from tests.runtime.store.hub.hub_state import TOKEN


def run(quick: bool) -> list[Row]:
    """Return commits and requests for files and listings, and what a storm left."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _files(Path(folder), 30 if quick else 100)
        return rows + _storm(Path(folder), *((60, 4, 2.0) if quick else (500, 12, 60.0)))


def _files(folder: Path, n: int) -> list[Row]:
    from huggingface_hub import HfFileSystem

    paths = [folder / f"{i}.npz" for i in range(n)]
    for path in paths:
        path.write_bytes(os.urandom(20_000))
    told: dict[str, tuple[int, float, int]] = {}
    for who in ("ours", "theirs"):
        with LoopbackProcess() as hub:
            theirs = HfFileSystem(endpoint=hub.endpoint, token=TOKEN)
            store = hub_storm.hub_store(hub, 5.0)
            began = time.perf_counter()
            if who == "ours":
                with ThreadPoolExecutor(store.uploads_at_once) as pool:
                    list(pool.map(lambda path: store.put(path, f"items/{path.name}"), paths))  # noqa: B023
            else:
                for path in paths:
                    theirs.put_file(str(path), f"datasets/someone/nbkit/items/{path.name}")
            seconds, before = time.perf_counter() - began, hub.control()
            assert len(before["files"]) == n
            for _ in range(10):
                if who == "ours":
                    assert len(list(store.list("items/"))) == n
                else:
                    theirs.invalidate_cache()
                    assert len(theirs.find("datasets/someone/nbkit/items")) == n
            asked = hub.control()["counts"]
            told[who] = len(before["commits"]), seconds, asked.get("tree", 0) - before["counts"].get("tree", 0)
    (ours, seconds, listed), (single, alone, again) = told["ours"], told["theirs"]
    rival = "HfFileSystem, a commit a file"
    return [
        Row(f"hub: commits for {n} files of 20 kB", ours, "commits", rival, single, "<= 4", ours <= 4),
        Row("  seconds, with 5 s between two commits", seconds, "s", rival, alone),
        Row("  listings fetched for 10 asked", listed, "listings", rival, again, "1", listed == 1),
    ]


def _storm(folder: Path, n: int, kills: int, every: float) -> list[Row]:
    found = hub_storm.run_storm(folder / "storm", n, kills, rate=0.2, every=every, seed=1, life=(0.5, 2.5))
    scaled = "" if every == 60.0 else f", a minute scaled to {every:g} s"
    per = found.commits / max(found.sessions, 1)
    return [
        Row(f"hub storm: {n} items, 3 sessions, SIGKILLs{scaled}", found.kills, "kills", note=f"{found.wiped} wiped"),
        Row("  requests that failed", 100 * found.failing, "%", note=f"of {found.requests}: {dict(found.failed)}"),
        Row(
            "  files there, each once and verified", found.files, "files", target=f"{n}, no fault",
            met=found.files == n and not found.faults, note="; ".join(found.faults[:3]),
        ),
        Row("  commits", found.commits, "commits", note=f"{per:.1f} a session, {found.seconds / 60:.1f} min in all"),
        Row(
            "  closest two commits of a session", found.closest, "s",
            target=f">= {every:g} s", met=found.closest >= every,
        ),
    ]  # fmt: skip
