"""A day of scheduled sessions with poison items, slow and failing stores, changing hosts and clocks

In simulated time, a minute in 0.1 s: real processes on two hosts, and a third one that trains a model beside them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.items.schedule import POISON, run_schedule


def run(quick: bool) -> list[Row]:
    """Return what became of the items, and of what the store had acknowledged."""
    hours, n, poison, steps = (1.5, 80, 1, 60) if quick else (24.0, 1500, 3, 1000)
    with tempfile.TemporaryDirectory() as folder:
        day = run_schedule(Path(folder) / "day", hours, n, poison, steps, seed=2)
    bad = poison * len(POISON)
    share = 100 * day.failed / max(day.requests, 1)
    beside = (
        f"{day.kills} killed by their hosts, {day.by_poison} by an item; {day.wipes} disks wiped, {day.jumps} clocks "
        f"set; {day.refused} not opened by their stores; {share:.0f} % of {day.requests} requests failed; {day.after} "
        f"sessions after the {hours:g} h"
    )
    return [
        Row(f"schedule of {hours:g} h: sessions", day.sessions, "sessions", note=beside),
        Row("  items done", day.items, "items", target=f"{n - bad}", met=day.items == n - bad),
        Row("  poison items set aside and named", day.set_aside, "items", target=f"{bad}", met=day.set_aside == bad),
        Row("  items lost, doubled or changed, acknowledged and gone, or a training that differs", len(day.faults),
            "faults", target="0", met=not day.faults, note="; ".join(fault[:300] for fault in day.faults[:2])),
        Row("  items made again a session that was killed", day.again / max(day.kills + day.by_poison, 1), "items",
            note="two hosts take the same item now and then, and outputs on a wiped disk are made again"),
        Row("  steps of a training beside them, equal to a calm one's", day.steps, "steps"),
    ]  # fmt: skip
