"""A session with a store that hangs closes by its time limit, and names what waits."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from nbkit.runtime.session import open_session
from nbkit.runtime.store.bounded import LEAST, Bounded, OutOfTime
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.test_closing import HangingStore

LIMIT = 4.0  # seconds
MORE = 1.2  # seconds; that much later at most
HUNG = 60.0  # seconds; more than any session here has


class Hanging(HangingStore):
    """Its connections hang, too."""

    def connect(self) -> Any:
        if "connect" in self.verbs:
            self._hang("connect", "")
        return self


@pytest.fixture
def over(monkeypatch):
    monkeypatch.setattr("tests.runtime.test_closing.SLOWNESS", HUNG)
    event = threading.Event()
    event.set()  # nothing hangs yet
    yield event
    event.set()


def rows(number: int) -> list[dict[str, str]]:
    return [{"key": f"k{n}"} for n in range(number)]


@pytest.mark.parametrize("number", [3, 40], ids=["few", "more than the queue holds"])
@pytest.mark.parametrize("verbs", ["put", "get", "stat", "list", "delete", "connect", "put list", "put get stat list"])
def test_whatever_hangs_from_some_moment_on_the_session_closes_by_its_limit(tmp_path, over, verbs, number, capsys):
    began = time.monotonic()
    session = open_session("p", Hanging(tmp_path / "store", verbs, over), limit=LIMIT, folder=tmp_path / "work")
    for item in session.work(rows(number)):
        with item:
            if item.key == "k1":
                over.clear()
            time.sleep(0.05)
            item.save(x=np.arange(2))
    summary = session.close()
    assert time.monotonic() - began < LIMIT + MORE
    said = capsys.readouterr().out
    assert "Traceback" not in said
    stored = {stat.name for stat in FolderStore(tmp_path / "store").list()}
    made = {f"p/items/{key}.npz" for key in session.ledger.state.done} | set(summary["not_stored"])
    assert all(name in said for name in summary["not_stored"][:1])
    assert {f"p/items/{key}.npz" for key in session.ledger.state.done} <= stored
    over.set()
    again = open_session("p", FolderStore(tmp_path / "store"), folder=tmp_path / "work")
    for item in again.work(rows(number)):
        with item:
            assert f"p/items/{item.key}.npz" not in made, "what one session made, the next does not make again"
            item.save(x=np.arange(2))
    summary = again.close()
    assert summary["complete"] and summary["done"] == number


def test_only_one_call_is_waited_for_after_the_end(tmp_path):
    class Clock:
        end = time.monotonic() + 0.3

        def wall(self) -> float:
            return self.end - time.monotonic()

    clock, hang = Clock(), threading.Event()
    with pytest.raises(OutOfTime):  # begun in time
        Bounded(clock.wall).call(hang.wait, "asking")
    assert time.monotonic() - clock.end < 0.8
    for _ in range(4):  # other connections, begun after the end
        began = time.monotonic()
        with pytest.raises(OutOfTime):
            Bounded(clock.wall).call(hang.wait, "asking")
        assert time.monotonic() - began < 0.5
    other = Clock()
    other.end = time.monotonic() - 5
    assert Bounded(other.wall).call(lambda: time.sleep(LEAST / 2) or 7, "asking") == 7, "a store that answers late"
    hang.set()
