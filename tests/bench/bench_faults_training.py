"""Faults at the n-th operation of disk, store and memory, and losses of power, in sessions of a training

As in `tests.bench.bench_faults`; a training must also end with the bits of an uninterrupted one. Its thousands of
operations are struck in part: all would take hours.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.bench.bench_faults import every, rows_of_faults, rows_of_losses
from tests.bench.rows import Row
from tests.runtime.items.nth_fault_items import short_waits
from tests.runtime.training.faults import nth_fault_training, power_loss_sessions

_QUICK = {"disk": 97, "store": 23, "memory": 997}
_WHOLE = {"disk": 7, "memory": 499}  # of 3,000 and 20,000 operations


def run(quick: bool) -> list[Row]:
    """Return the numbers of faulty sessions of a training, of losses of power, and of false states after them."""
    with tempfile.TemporaryDirectory() as folder, short_waits():
        root = Path(folder)
        expected = nth_fault_training.uninterrupted(root / "whole")

        def sweep(place: Path, kind: str, lasting: bool, chosen: Any) -> list[Any]:
            return nth_fault_training.sweep(place, kind, lasting, chosen, expected)

        kinds = nth_fault_training.KINDS
        rows = [*rows_of_faults(root, "training", sweep, kinds, _QUICK if quick else _WHOLE)]
        lost = power_loss_sessions.lose_training(root / "power", every(61 if quick else 1), expected)
        return rows + rows_of_losses("training", lost)
