"""Three sessions on one data set of the Hub, killed at random, while a fifth of all requests fails in every way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbkit.ground.files import sha256_of
from tests.runtime.children import fork, reap
from tests.runtime.store import storm
from tests.runtime.store.hub import hub_storm
from tests.runtime.store.hub.hub_state import BEFORE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the storm forks")


@pytest.mark.kill
def test_killed_sessions_on_a_failing_hub_store_every_file_once(tmp_path: Path) -> None:
    found = hub_storm.run_storm(tmp_path, n=90, kills=4, rate=0.2, every=0.8, seed=2)
    assert not found.faults, found.faults[:3]
    assert found.kills >= 3 and found.files == 90
    assert found.failing >= 0.12, f"only {found.failing:.0%} of {found.requests} requests failed"
    assert set(BEFORE) & set(found.failed)
    assert found.closest >= 0.8 and found.commits < 60


def test_the_storms_check_can_fail(tmp_path: Path) -> None:
    wanted = storm.expected(tmp_path, 3, sha256_of)
    with hub_storm.LoopbackProcess() as hub:
        store = hub_storm.hub_store(hub, 0.05)
        child = fork(lambda: storm.session_once(store, tmp_path / "machine", 3, None), tmp_path / "log")
        assert reap(child) == 0, (tmp_path / "log").read_text()
        assert hub_storm.check(hub, tmp_path, wanted, 3, 0.05, hub_storm.Outcome()) == []
        more = wanted | {"storm/items/sub-009/no.npz": "0"}
        faults = hub_storm.check(hub, tmp_path, more, 4, 5.0, hub_storm.Outcome())
        for words in ("expected 0", "no record", "two commits of a session"):
            assert any(words in fault for fault in faults), words
        wrong = tmp_path / "wrong"
        wrong.write_bytes(b"other")
        store.put(wrong, next(iter(wanted)))
        assert any("expected" in f for f in hub_storm.check(hub, tmp_path, wanted, 3, 0.05, hub_storm.Outcome()))
