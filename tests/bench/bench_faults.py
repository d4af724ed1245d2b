"""Faults at the n-th operation of disk, store and memory, and losses of power, in sessions of items

Each faulty session is followed by a healthy one, half of them on a wiped machine. A state is false if something was
lost, doubled or unreadable, if a traceback was shown for a fault of the surroundings, or if a session did not end.
Trainings are in `tests.bench.bench_faults_training`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.rows import Row
from tests.runtime.items.nth_fault_items import short_waits, sweep
from tests.runtime.training.faults import power_loss_sessions
from tests.runtime.training.faults.nth_fault_training import KINDS

_WHERE = {"work": "disk", "store-disk": "disk", "store": "store", "memory": "memory"}
_QUICK = {"disk": 11, "store": 2, "memory": 29}
_WHOLE = {"memory": 7}  # of 1,600 calls; each costs a second or more


def run(quick: bool) -> list[Row]:
    """Return the numbers of faulty sessions of items, of losses of power, and of false states after them."""
    with tempfile.TemporaryDirectory() as folder, short_waits():
        root = Path(folder)
        rows = [*rows_of_faults(root, "items", sweep, KINDS, _QUICK if quick else _WHOLE)]
        lost = power_loss_sessions.lose_items(root / "power", every(19 if quick else 1))
        return rows + rows_of_losses("items", lost)


def every(stride: int) -> Callable[[int], bool]:
    """Return the choice of every so manieth operation."""
    return lambda n: n % stride == 0


def rows_of_faults(
    root: Path, phase: str, swept: Callable[..., list[Any]], kinds: list[str], strides: dict[str, int]
) -> Iterator[Row]:
    """Strike a session at its operations on disk, store and memory, and yield what came of it.

    Parameters
    ----------
    root : Path
    phase : str
        Named in the rows.
    swept : callable
        ``swept(folder, kind, lasting, chosen)`` returns an outcome for each operation of a kind.
    kinds : list of str
    strides : dict of str to int
        Where it is struck at every so manieth operation only.
    """
    for part in ("disk", "store", "memory"):
        outcomes: list[Any] = []
        stride = strides.get(part, 1)
        for kind in (kind for kind in kinds if _WHERE[kind.split()[0]] == part):
            for lasting in (False, True) if kind != "memory" else (False,):
                outcomes += swept(root / kind.replace(" ", "-") / str(lasting), kind, lasting, every(stride))
        what = f"faults of the {part}, {phase}"
        print(f"{what}: {len(outcomes)} sessions", flush=True)  # it takes long
        note = "for every n" if stride == 1 else f"for n = {stride}, {2 * stride}, {3 * stride}, ..."
        yield Row(f"{what}: sessions with a fault at their n-th operation", len(outcomes), "sessions", note=note)
        number = f"{len(outcomes):,} sessions"
        yield false_states(what, number, [f"{o.n} {o.struck[:1]}: {o.faults[0]}" for o in outcomes if o.faults])


def rows_of_losses(phase: str, found: Any) -> list[Row]:
    """Return what came of losses of power in a session of a phase."""
    what = f"loss of power, a session of {phase}"
    return [
        Row(f"{what}: operations after each of which un-synced writes are dropped", found.operations, "ops"),
        Row(f"{what}: surviving trees looked at", found.states, "trees"),
        Row(f"{what}: sessions that went on from one", found.sessions, "sessions"),
        false_states(what, f"{found.states:,} trees", found.faults),
    ]


def false_states(what: str, looked_at: str, faults: list[str]) -> Row:
    """Return the row of false states, with the first two in its note."""
    note = "; ".join(faults[:2])[:300]
    unit = f"of {looked_at}"
    return Row(f"{what}: false states after them", len(faults), unit, target="0", met=not faults, note=note)
