"""A death is heard of at once, by all, and nobody waits for the dead for ever."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from nbkit.runtime.errors import NbkitError
from nbkit.runtime.training.ranks import watch as rank_watch
from nbkit.runtime.training.ranks.meeting import together
from nbkit.runtime.training.ranks.world import current_world
from tests.runtime.children import die, fork, reap
from tests.runtime.training.ranks.rank_support import environments
from tests.runtime.training.training_support import FakeSession


def team(folder: Path, work, size: int = 2) -> list[int]:
    """Return the exit codes of processes that met and then did ``work(ranks)``."""

    def start(told: dict[str, str]) -> None:
        os.environ.update(told)
        with together(current_world(), FakeSession(folder), "cpu", {}) as ranks:
            work(ranks)

    pids = [fork(lambda told=told: start(told), folder / f"log-{told['RANK']}") for told in environments(size)]
    return [reap(pid) for pid in pids]


def test_a_main_thread_that_waits_for_the_dead_is_ended_after_a_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_watch, "_GRACE", 0.3)

    def work(ranks) -> None:
        if ranks.rank == 1:
            die()
        ranks.watch.last_resort = lambda: (tmp_path / "written").write_text("the last checkpoint")
        time.sleep(50)  # as one that waits on its GPU

    assert team(tmp_path, work) == [1, -9]
    words = (tmp_path / "log-0").read_text()
    assert "rank 1 (process " in words and "ended unexpectedly; rank 0 still waits for it and is ended" in words
    assert (tmp_path / "written").exists(), "what was being written is finished first"


def test_news_of_a_death_reaches_those_who_are_not_connected_to_the_dead(tmp_path: Path) -> None:
    def work(ranks) -> None:
        if ranks.rank == 2:
            die()
        words = ranks.watch.why(30.0)
        assert words.startswith("rank 2 (process ") and words.endswith("ended unexpectedly")
        raise RuntimeError("as a collective operation fails")

    assert team(tmp_path, work, 3) == [1, 1, -9]
    for rank in (0, 1):
        log = (tmp_path / f"log-{rank}").read_text()
        assert f"{NbkitError.__name__}: rank 2 (process " in log and "AssertionError" not in log


def test_one_that_is_done_first_is_not_taken_for_dead(tmp_path: Path) -> None:
    def work(ranks) -> None:
        if ranks.first:
            time.sleep(0.5)
            assert ranks.watch.lost is None

    assert team(tmp_path, work) == [0, 0]


def test_a_stranger_at_the_door_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = rank_watch._server

    def with_stranger(address: str, size: int) -> socket.socket:
        server = listen(address, size)
        stranger = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
        stranger.sendall(b'{"rank": 1, "name": "rank 1", "token": "guessed"}\n')
        strangers.append(stranger)
        return server

    strangers: list[socket.socket] = []
    monkeypatch.setattr(rank_watch, "_server", with_stranger)

    def work(ranks) -> None:
        if ranks.first:
            assert strangers[0].recv(1) == b"", "its line is closed"
            assert [name for name in ranks.watch._names.values() if f"process {os.getppid()}" in name] == []
        ranks.meet()
        assert ranks.watch.lost is None

    assert team(tmp_path, work) == [0, 0]
