"""Real SIGKILLs at random instants and at every touch of the file system: nothing is lost, nothing is false."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runtime.items import storm


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    """The hash of all outputs of a run that nothing killed."""
    root = tmp_path_factory.mktemp("calm")
    calm = storm.run_storm(root, n=60, kills=0, seed=0)
    assert not calm.faults and calm.sessions == 1 and calm.redone == 0
    return storm.tree_hash(root / "store" / "storm" / "items")


@pytest.mark.parametrize("mode", ["random", "touch"])
def test_kills_lose_nothing_and_redo_at_most_one_item_each(tmp_path: Path, uninterrupted: str, mode: str) -> None:
    work_s = 0.01 if mode == "random" else 0.001
    found = storm.run_storm(tmp_path, n=60, kills=25, seed=7, work_s=work_s, mode=mode)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 10, f"the storm was over after {found.kills} kills: make it longer"
    assert len(found.executions) == 60, "an item was lost"
    assert found.redone <= found.kills, f"{found.redone} items done again after {found.kills} kills"
    assert storm.tree_hash(tmp_path / "store" / "storm" / "items") == uninterrupted, "outputs differ from a calm run's"


def test_no_stray_file_is_left_after_the_next_whole_session(tmp_path: Path) -> None:
    found = storm.run_storm(tmp_path, n=30, kills=12, seed=3, mode="touch")
    assert not found.faults, found.faults[:3]
    strays = [p for p in (tmp_path / "work").rglob(".*.part")]
    assert not strays, "a completed session leaves no temporary file in its folder"
    in_store = list((tmp_path / "store").rglob("*.part"))
    assert not in_store, "nor in the store"


def test_machine_wiped_at_every_kill_keeps_what_the_store_acknowledged(tmp_path: Path, uninterrupted: str) -> None:
    rounds, complete = 0, False
    while not complete:
        rounds += 1
        assert rounds < 60, "no progress across wiped sessions"
        pid = storm.fork_session(tmp_path, 60, 0.002, tmp_path / f"work-{rounds}", touch=60 * rounds)
        complete = storm._reap(pid, 60.0) == 0
        faults = storm.check_store(tmp_path, set())
        assert not faults, faults[:3]
        shutil.rmtree(tmp_path / f"work-{rounds}", ignore_errors=True)
    assert rounds > 3, "the sessions were not killed often enough to show anything"
    assert storm.tree_hash(tmp_path / "store" / "storm" / "items") == uninterrupted


def test_the_checks_of_the_storm_can_fail(tmp_path: Path) -> None:
    storm.run_storm(tmp_path, n=5, kills=0, seed=0)
    victim = next((tmp_path / "store" / "storm" / "items").rglob("*.npz"))
    victim.write_bytes(victim.read_bytes()[:-1])
    assert any("is not what was recorded" in fault for fault in storm.check_store(tmp_path, set()))
    segment = next((tmp_path / "store" / "storm" / "ledger").rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-5])
    assert any("records can be read" in fault for fault in storm.check_store(tmp_path, set()))
