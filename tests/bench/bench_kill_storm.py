"""Five hundred SIGKILLs over the item loop, and what they cost.

Half hit random moments, half a touch of the file system: opens, renames, fsyncs, deletions, in ledger, outputs,
segments and uploads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.items import acknowledged, storm


def run(quick: bool) -> list[Row]:
    """Return kills, faults, items lost and items done again, beside a calm run."""
    n, kills = (300, 40) if quick else (6000, 500)
    with tempfile.TemporaryDirectory() as folder:
        calm = storm.run_storm(Path(folder) / "calm", n, kills=0, seed=1)
        found = storm.run_storm(Path(folder) / "storm", n, kills=kills, seed=2)
        same = storm.tree_hash(Path(folder) / "calm/store/storm/items") == storm.tree_hash(
            Path(folder) / "storm/store/storm/items"
        )
        strays = len(list((Path(folder) / "storm").rglob("*.part")))
        told = acknowledged.run_history(Path(folder) / "told", *((100, 30) if quick else (1500, 200)), seed=2)
    assert not calm.faults, calm.faults
    share = 100 * told.failed / max(told.requests, 1)
    beside = f"{told.wipes} machines wiped, {told.jumps} clocks set, {share:.0f} % of {told.requests} requests failed"
    return [
        Row("kill storm: SIGKILLs survived", found.kills, "kills", target=f">= {kills}", met=found.kills >= kills),
        Row("kill storm: unreadable or false states", len(found.faults), "states", target="0", met=not found.faults,
            note="; ".join(found.faults[:2])),
        Row("kill storm: items lost", n - len(found.executions), "items", target="0", met=len(found.executions) == n),
        Row("kill storm: items done again a kill", found.redone / max(found.kills, 1), "items", target="<= 1",
            met=found.redone <= found.kills),
        Row("kill storm: outputs equal a calm run's", float(same), "1 = yes", target="1", met=same),
        Row("acknowledged history: SIGKILLs on two hosts", told.kills, "kills", note=beside),
        Row("acknowledged history: what was acknowledged and is not there", len(told.faults), "faults", target="0",
            met=not told.faults, note=f"of {told.acknowledged} outputs and segments of {told.items} items"),
        Row("kill storm: stray temporary files at the end", strays, "files", target="0", met=strays == 0),
    ]  # fmt: skip
