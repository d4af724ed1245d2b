"""What a store has acknowledged is there after any kill, wipe, clock jump or failed request."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.runtime.items.acknowledged import check, run_history

pytestmark = pytest.mark.kill


def test_what_was_acknowledged_is_there_after_every_kill(tmp_path):
    found = run_history(tmp_path / "storm", n=60, kills=24, seed=3)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 24 and found.wipes and found.jumps and found.items == 60
    assert found.failed >= 0.2 * found.requests and found.acknowledged >= 60


def test_the_checker_sees_a_lost_output_and_a_lost_record(tmp_path):
    root = tmp_path / "storm"
    assert not run_history(root, n=6, kills=0).faults
    next((root / "store/storm/items").rglob("*.npz")).unlink()
    assert any("is not there" in fault for fault in check(root, Counter()))
    for path in (root / "store/storm/ledger").rglob("*.jsonl"):
        path.unlink()
    assert any("record of" in fault for fault in check(root, Counter()))
