"""The session on every rank but 0 trains along and owns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.follower import Follower
from nbkit.runtime.session import Session, open_session


@pytest.fixture
def rank_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def opened(tmp_path: Path, **options) -> Session | Follower:
    return open_session("tiny", store=tmp_path / "store", folder=tmp_path / "here", **options)


def test_it_draws_what_rank_0_draws_and_leaves_no_trace(
    rank_1: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import torch

    with opened(tmp_path, accelerator="cpu", seed=11, limit="9h") as session:
        first = torch.rand(3)
        assert isinstance(session, Follower) and session.rank == 1
        session.say("a word")
        session.journal("step", step=1)
        session.result("loss", 1.0, unit="", baseline=2.0, baseline_is="zero")
        session.note(data="none")
        session.figure(None, "curve")
        assert session.budget.wall() == float("inf"), "rank 0 has the wall"
        assert session.history() == [] and session.close()["exit"] == 0
    assert capsys.readouterr().out == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with opened(tmp_path, accelerator="cpu", seed=11) as session:
        assert isinstance(session, Session) and session.rank == 0
        assert torch.equal(torch.rand(3), first), "both begin with the same weights"


def test_it_refuses_items_and_points_to_rank_0_for_its_own_checkpoints(rank_1: None, tmp_path: Path) -> None:
    session = opened(tmp_path)
    with pytest.raises(UsageError, match="Items are done by one process per session, and this is rank 1"):
        session.work([{"key": "a"}])
    with pytest.raises(UsageError, match="under `if session.rank == 0:`"):
        session.checkpoint()
    with pytest.raises(UsageError, match="opened without accelerator="):
        session.fit(None, None)


def test_it_reads_what_other_phases_made(rank_1: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as alone:
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            alone.delenv(name)
        source = tmp_path / "made.txt"
        source.write_text("made")
        session = open_session("windows", store=tmp_path / "store", folder=tmp_path / "there")
        for item in session.work([{"key": "a"}]):
            with item:
                item.save(text=source)
        session.close()
    assert [path.read_text() for path in opened(tmp_path).inputs("windows")] == ["made"]
