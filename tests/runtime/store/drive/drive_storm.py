"""The storm of `tests.runtime.store.storm` on one Drive folder, and what must be in the Drive after it."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from tests.runtime.store import storm
from tests.runtime.store.drive.drive_loopback import LoopbackProcess
from tests.runtime.store.drive.drive_state import md5_of


@dataclass
class Outcome(storm.Outcome):
    """Counts of a storm, and what is wrong after it."""

    stored_twice: int = 0


def drive_store(drive: LoopbackProcess) -> DriveStore:
    credential = read_credential(drive.credential, "the test")
    return DriveStore(drive.url.removeprefix("gdrive://"), credential, first_wait=0.05)


def run_storm(
    root: Path,
    n: int,
    kills: int,
    rate: float,
    seed: int = 0,
    shards: bool = True,
    lag: float = 0.0,
    life: tuple[int, int] = (15, 70),
) -> Outcome:
    """Kill three parallel sessions until `kills` have died, then let them finish; check everything.

    A session lives for a random number of the Drive's requests, `life`. Without `shards` all three work on the same
    items. `lag` is in seconds.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng, outcome, began = random.Random(seed), Outcome(), time.monotonic()
    wanted = storm.expected(root, n, md5_of)
    with LoopbackProcess(root / "drive", rate=rate, seed=seed, lag=lag) as drive:

        def session(folder: Path, worker: int) -> bool:
            return storm.session_once(drive_store(drive), folder, n, f"{worker + 1}/3" if shards else None)

        storm.kill_at_random(
            root, session, outcome, kills, drive.served, lambda: rng.uniform(*life), rng, longest=240.0, most=40
        )
        time.sleep(lag)
        drive.control(rate=0.0)
        if lag:  # sessions that end at once see the other's copies only after the lag; the next writer does
            drive_store(drive).tidy(f"{storm.SLUG}/")
        outcome.count(drive)
        outcome.faults += check(drive, root, wanted, n, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def check(drive: LoopbackProcess, root: Path, wanted: dict[str, str], n: int, outcome: Outcome) -> list[str]:
    """Return what is wrong in the Drive: a file missing, twice, or of another content; a record that is not there."""
    faults: list[str] = []
    store = drive_store(drive)
    before = Counter(name for name, _, _ in drive.control()["files"])
    outcome.stored_twice = sum(count - 1 for name, count in before.items() if name in wanted)
    listed = [stat.name for stat in store.list(f"{storm.SLUG}/items/")]
    if listed != sorted(wanted):
        faults.append(f"{len(listed)} names are listed, {len(wanted)} expected")
    held: dict[str, list[str]] = {}
    for name, md5, _ in drive.control()["files"]:
        held.setdefault(name, []).append(md5)
    for name, md5 in wanted.items():
        if held.get(name) != [md5]:
            faults.append(f"{name} is there as {held.get(name)}, expected once as {md5}")
    faults += [f"{name} was not asked for" for name in held if "/items/" in name and name not in wanted]
    faults += [f"{name} is there {len(md5s)} times" for name, md5s in held.items() if len(md5s) > 1]
    return faults + storm.check_records(store, n, root / "check-cache")
