"""The storm of `tests.runtime.store.storm` on one data set of the Hub, and what must be in the Hub after it.

A minute is scaled to `every` seconds, so that a session lives for several commits.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from nbkit.ground.files import sha256_of
from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.store import HubStore
from tests.runtime.store import storm
from tests.runtime.store.hub.hub_loopback import LoopbackProcess
from tests.runtime.store.hub.hub_state import TOKEN


@dataclass
class Outcome(storm.Outcome):
    """Counts of a storm, and what is wrong after it."""

    commits: int = 0
    files: int = 0
    closest: float = float("inf")  # seconds between two commits of a session


def hub_store(hub: LoopbackProcess, every: float) -> HubStore:
    return HubStore("someone/nbkit", HubCredential(TOKEN, hub.endpoint, "the test"), every, first_wait=0.05)


def run_storm(
    root: Path, n: int, kills: int, rate: float, every: float, seed: int = 0, life: tuple[float, float] = (1.0, 4.0)
) -> Outcome:
    """Kill three parallel sessions until `kills` have died, then let them finish; check everything.

    A session lives for a random number of commit intervals, `life`.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng, outcome, began = random.Random(seed), Outcome(), time.monotonic()
    wanted = storm.expected(root, n, sha256_of)
    with LoopbackProcess(rate=rate, seed=seed) as hub:

        def session(folder: Path, worker: int) -> bool:
            return storm.session_once(hub_store(hub, every), folder, n, f"{worker + 1}/3")

        storm.kill_at_random(
            root,
            session,
            outcome,
            kills,
            time.monotonic,
            lambda: every * rng.uniform(*life),
            rng,
            longest=600.0,
            most=10,
        )
        outcome.count(hub)
        outcome.faults += check(hub, root, wanted, n, every, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def check(
    hub: LoopbackProcess, root: Path, wanted: dict[str, str], n: int, every: float, outcome: Outcome
) -> list[str]:
    """Return what is wrong: a file missing or of another content, a record that is not there, commits too close."""
    faults: list[str] = []
    store, seen = hub_store(hub, every), hub.control()
    held = {name: sha256 for name, sha256 in seen["files"].items() if "/items/" in name}
    faults += [f"{name} is {held.get(name)}, expected {sha}" for name, sha in wanted.items() if held.get(name) != sha]
    faults += [f"{name} was not asked for" for name in held if name not in wanted]
    outcome.files, outcome.commits = len(held), len(seen["commits"])
    last: dict[str, float] = {}
    for commit in seen["commits"]:
        writer = commit["message"].split()[1]
        outcome.closest = min(outcome.closest, commit["at"] - last.get(writer, float("-inf")))
        last[writer] = commit["at"]
    if outcome.closest < every:
        faults.append(f"two commits of a session within {outcome.closest:.3f} s, allowed is one in {every} s")
    return faults + storm.check_records(store, n, root / "check-cache")
