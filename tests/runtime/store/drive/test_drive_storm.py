"""Three sessions on one Drive folder, killed at random, while a quarter of all requests fails in every way we know."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runtime.children import fork, reap
from tests.runtime.store import storm
from tests.runtime.store.drive import drive_storm
from tests.runtime.store.drive.drive_state import AFTER, BEFORE, DOWNLOADS, md5_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the storm forks")


@pytest.mark.kill
def test_killed_shards_on_a_failing_drive_store_every_file_once(tmp_path: Path) -> None:
    found = drive_storm.run_storm(tmp_path, n=90, kills=15, rate=0.25, seed=2)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 8, f"only {found.kills} sessions were killed: make the storm longer"
    assert found.failing >= 0.2, f"only {found.failing:.0%} of {found.requests} requests failed"
    for kinds in (*((kind,) for kind in BEFORE), AFTER, DOWNLOADS):
        assert set(kinds) & set(found.failed), f"none of {kinds} came, only {dict(found.failed)}"
    assert found.stored_twice == 0, "disjoint shards have no reason to make a file twice"


@pytest.mark.kill
def test_killed_sessions_on_the_same_items_leave_one_file_a_name(tmp_path: Path) -> None:
    found = drive_storm.run_storm(tmp_path, n=40, kills=6, rate=0.25, seed=5, shards=False)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 3


@pytest.mark.kill
def test_listings_that_lag_behind_lose_nothing(tmp_path: Path) -> None:
    found = drive_storm.run_storm(tmp_path, n=40, kills=6, rate=0.2, seed=3, lag=1.0)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 3


def test_the_storms_check_can_fail(tmp_path: Path) -> None:
    wanted = storm.expected(tmp_path, 3, md5_of)
    with drive_storm.LoopbackProcess(tmp_path / "drive") as drive:
        store = drive_storm.drive_store(drive)
        child = fork(lambda: storm.session_once(store, tmp_path / "machine", 3, None), tmp_path / "log")
        assert reap(child) == 0, (tmp_path / "log").read_text()
        assert drive_storm.check(drive, tmp_path, wanted, 3, drive_storm.Outcome()) == []
        faults = drive_storm.check(
            drive, tmp_path, wanted | {"storm/items/sub-009/no.npz": "0"}, 4, drive_storm.Outcome()
        )
        assert any("expected once" in fault for fault in faults) and any("no record" in fault for fault in faults)
        wrong = tmp_path / "wrong"
        wrong.write_bytes(b"other")
        drive_storm.drive_store(drive).put(wrong, next(iter(wanted)))
        faults = drive_storm.check(drive, tmp_path, wanted, 3, drive_storm.Outcome())
        assert any("expected once" in fault for fault in faults)
