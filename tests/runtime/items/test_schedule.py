"""Hours of sessions with poison items, failing stores, changing hosts and clocks: everything is done or named."""

from __future__ import annotations

import pytest

from tests.runtime.items.schedule import POISON, rows_of, run_schedule

pytestmark = pytest.mark.kill


def test_everything_is_done_or_named_and_nothing_lost_or_doubled(tmp_path):
    day = run_schedule(tmp_path / "day", hours=0.7, n=60, poison=1, steps=30, seed=1)
    assert not day.faults, day.faults[:3]
    assert (day.items, day.set_aside) == (57, 3) and day.by_poison >= 3
    assert day.kills and day.wipes and day.jumps and day.failed


def test_poison_is_spread_and_counted():
    rows = rows_of(60, poison=2)
    assert sorted(str(row["does"]) for row in rows if row["does"] != "works") == sorted(POISON * 2)
    assert len({row["key"] for row in rows}) == 60
