"""A fault at the n-th operation of disk, store and memory, for every n, in a session of the item loop.

Each faulty session is followed by a healthy one, half of them on a wiped machine. A state is false if something was
lost, doubled or unreadable, if a traceback was shown for a fault of the surroundings, or if a session did not end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.items.nth_fault_items import Outcome, short_waits, sweep

_DISK = [f"{where} {number}" for where in ("work", "store-disk") for number in ("ENOSPC", "EDQUOT", "EIO", "EROFS")]
_STORE = [f"store {how} {kind}" for how in ("before", "after", "half") for kind in ("passing", "permanent")]


def run(quick: bool) -> list[Row]:
    """Return the numbers of faulty sessions and of false states after them, by what failed."""
    kinds = {"disk": (_DISK, 11), "store": (_STORE, 2), "memory": (["memory"], 29)}
    rows = []
    with tempfile.TemporaryDirectory() as folder, short_waits():
        for what, (members, stride) in kinds.items():
            outcomes: list[Outcome] = []
            for kind in members:
                for lasting in (False, True) if kind != "memory" else (False,):
                    step = stride if quick else 1
                    chosen = None if step == 1 else (lambda n, step=step: n % step == 0)
                    outcomes += sweep(Path(folder) / kind.replace(" ", "-") / str(lasting), kind, lasting, chosen)
            false = [f"{o.n} {o.struck[:1]}: {o.faults[0]}" for o in outcomes if o.faults]
            rows += [
                Row(f"faults of the {what}: sessions with a fault at their n-th operation", len(outcomes), "sessions"),
                Row(f"faults of the {what}: false states after them", len(false), "states", target="0", met=not false,
                    note="; ".join(false[:2])[:300]),
            ]  # fmt: skip
    return rows
