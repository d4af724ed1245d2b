"""Faults at the n-th operation of disk, store and memory, and losses of power, in sessions of items and of training.

Each faulty session is followed by a healthy one, half of them on a wiped machine. A state is false if something was
lost, doubled or unreadable, if a traceback was shown for a fault of the surroundings, if a session did not end, or if a
training did not end with the bits of an uninterrupted one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.rows import Row
from tests.runtime.items.nth_fault_items import short_waits, sweep
from tests.runtime.training.faults import nth_fault_training, power_loss_sessions
from tests.runtime.training.faults.nth_fault_training import KINDS

_WHERE = {"work": "disk", "store-disk": "disk", "store": "store", "memory": "memory"}
_EVERY = {"items": {"disk": 11, "store": 2, "memory": 29}, "training": {"disk": 97, "store": 23, "memory": 997}}


def run(quick: bool) -> list[Row]:
    """Return the numbers of faulty sessions, of losses of power, and of false states after them."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, short_waits():
        root = Path(folder)
        expected = nth_fault_training.uninterrupted(root / "whole")

        def train(place: Path, kind: str, lasting: bool, chosen: Any) -> list[Any]:
            return nth_fault_training.sweep(place, kind, lasting, chosen or (lambda n: True), expected)

        for phase, swept in {"items": sweep, "training": train}.items():
            rows += _faults(root / phase, phase, swept, quick)

        def every(stride: int) -> Callable[[int], bool]:
            return lambda n: not quick or n % stride == 0

        lost = {
            "items": power_loss_sessions.lose_items(root / "power-items", every(19)),
            "training": power_loss_sessions.lose_training(root / "power-training", every(61), expected),
        }
        for phase, found in lost.items():
            what = f"loss of power, a session of {phase}"
            rows += [
                Row(f"{what}: operations after each of which un-synced writes are dropped", found.operations, "ops"),
                Row(f"{what}: surviving trees looked at", found.states, "trees"),
                Row(f"{what}: sessions that went on from one", found.sessions, "sessions"),
                _false(what, found.faults),
            ]
    return rows


def _faults(root: Path, phase: str, swept: Callable[..., list[Any]], quick: bool) -> list[Row]:
    rows = []
    for part in ("disk", "store", "memory"):
        outcomes: list[Any] = []
        stride = _EVERY[phase][part] if quick else 1
        chosen = None if stride == 1 else (lambda n, stride=stride: n % stride == 0)
        for kind in (kind for kind in KINDS if _WHERE[kind.split()[0]] == part):
            for lasting in (False, True) if kind != "memory" else (False,):
                outcomes += swept(root / kind.replace(" ", "-") / str(lasting), kind, lasting, chosen)
        what = f"faults of the {part}, {phase}"
        rows += [
            Row(f"{what}: sessions with a fault at their n-th operation", len(outcomes), "sessions"),
            _false(what, [f"{o.n} {o.struck[:1]}: {o.faults[0]}" for o in outcomes if o.faults]),
        ]
    return rows


def _false(what: str, faults: list[str]) -> Row:
    note = "; ".join(faults[:2])[:300]
    return Row(f"{what}: false states after them", len(faults), "states", target="0", met=not faults, note=note)
