"""Cells run again in one kernel: a closed session says so, and a new one goes on from what the old one did."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime import opened as opened_module
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.session import Session
from nbkit.runtime.store.folder import FolderStore

ROWS = [{"key": f"k{i}"} for i in range(6)]
CALLS = {
    "work": lambda session: session.work(ROWS),
    "map": lambda session: session.map(dict, ROWS),
    "fit": lambda session: session.fit(None, None),
    "inputs": lambda session: session.inputs("toy"),
    "checkpoint": lambda session: session.checkpoint(),
    "history": lambda session: session.history(),
    "result": lambda session: session.result("a", 1.0, unit="1", baseline=0.0, baseline_is="nothing"),
    "note": lambda session: session.note(data="real"),
    "figure": lambda session: session.figure(None, "f"),
    "table": lambda session: session.table("t", [{"a": 1}]),
    "page": lambda session: session.page("p", "<p>"),
    "close": lambda session: session.close(),
}


def open_toy(root: Path, **options) -> Session:
    return nbkit.open_session("toy", **({"store": root / "store", "folder": root / "work"} | options))


def run(session: Session, stop_at: str | None = None, seen: list | None = None) -> None:
    for item in session.work(ROWS):
        with item:
            if item.key == stop_at:
                raise KeyboardInterrupt
            (seen if seen is not None else []).append(item.key)
            item.save(x=np.zeros(2))


@pytest.mark.parametrize("ended", ["close", "_leave"])
@pytest.mark.parametrize("call", CALLS)
def test_every_method_of_a_closed_session_says_that_it_is_closed(tmp_path, call, ended):
    session = open_toy(tmp_path)
    getattr(session, ended)()
    with pytest.raises(UsageError, match="This session of toy is closed. Run the cell with nbkit.open_session again"):
        CALLS[call](session)


def test_every_public_method_is_in_the_list_or_rightly_works_after_the_end():
    public = {name for name in dir(Session) if not name.startswith("_") and callable(getattr(Session, name))}
    after = {"close", "left", "say", "journal", "on_device"}
    assert public - after <= set(opened_module._NEED_OPEN)
    assert public - after | {"close"} <= set(CALLS) | {"prove"}


def test_every_property_says_that_the_session_is_closed_or_needs_nothing_of_it(tmp_path):
    """One that reads the store said: Cannot operate on a closed database."""
    names = {name for one in Session.__mro__ for name, value in vars(one).items() if isinstance(value, property)}
    plain = {name for name in dir(Session) if not name.startswith("_") and not callable(getattr(Session, name))}
    assert names and plain - names == {"rank", "rendezvous", "device"} & plain
    for ended in ("close", "_leave"):
        for known in (False, True):
            session = open_toy(tmp_path)
            if known:
                assert session.results.content == {"metrics": {}}
            getattr(session, ended)()
            for name in names:
                with pytest.raises(UsageError, match="This session of toy is closed"):
                    getattr(session, name)


@pytest.mark.parametrize("use", ["flush", "counts", "queued_uploads"])
def test_the_ledger_of_a_closed_session_says_that_it_is_closed(tmp_path, use):
    session = open_toy(tmp_path)
    session.close()
    calls = {"flush": session.ledger.flush, "counts": session.ledger.counts, "queued_uploads": session.outbox.waiting}
    with pytest.raises(UsageError, match="This session of toy is closed"):
        calls[use]()


@pytest.mark.parametrize("use", ["enter", "save and leave", "failed", "next"])
def test_an_item_that_outlives_its_session_says_that_it_is_closed(tmp_path, use):
    """It said: Cannot operate on a closed database. Free some disk space and run again."""
    session = open_toy(tmp_path)
    items = session.work(ROWS)
    item = next(items)
    if use == "enter":
        session.close()
        with pytest.raises(UsageError, match="This session of toy is closed"), item:
            pass
        return
    with item:
        item.save(x=[1])
    other = next(items)
    other.__enter__()
    session.close()
    with pytest.raises(UsageError, match="This session of toy is closed"):
        if use == "save and leave":
            other.save(x=[1])
            other.__exit__(None, None, None)
        elif use == "failed":
            other.__exit__(ValueError, ValueError("x"), None)
        else:
            for late in items:
                with late:
                    late.save(x=[1])


def test_run_all_again_after_the_end_finds_all_done(tmp_path, capsys):
    for turn in range(3):
        session, seen = open_toy(tmp_path), []
        run(session, seen=seen)
        assert session.close()["complete"] and len(seen) == (6 if turn == 0 else 0)
    assert "was still open" not in capsys.readouterr().out


@pytest.mark.parametrize("stop_at", ["k0", "k3", "k5"])
def test_run_all_again_after_an_interrupt_goes_on_in_the_same_workspace(tmp_path, stop_at, capsys):
    session, seen = open_toy(tmp_path), []
    with pytest.raises(KeyboardInterrupt):
        run(session, stop_at, seen)
    again = open_toy(tmp_path)
    assert f"Session {session.id} of toy was still open in this process" in capsys.readouterr().out
    assert again.folder == session.folder
    run(again, seen=seen)
    assert again.close()["complete"] and sorted(seen) == [row["key"] for row in ROWS]
    with pytest.raises(UsageError, match="is closed"):
        session.work(ROWS)
    state = read_state(FolderStore(tmp_path / "store"), "toy", tmp_path / "read")
    assert len(state.done) == 6 and len(state.sessions) == 2


@pytest.mark.train
def test_run_all_again_after_an_interrupted_training_resumes_from_its_last_step(tmp_path):
    import lightning

    from tests.runtime.training.training_support import Tiny, TinyData, run_child

    class Interrupt(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                os.kill(os.getpid(), signal.SIGINT)  # as a kernel is interrupted

    def in_one_kernel() -> list[int | None]:
        resumed = []
        for callbacks in ([Interrupt()], [], []):
            session = open_toy(tmp_path, accelerator="cpu")
            report = session.fit(Tiny(), TinyData(), max_steps=12, callbacks=callbacks)
            resumed += [report.resumed_from, report.step]
            if not callbacks:  # the cell that closes was not reached
                session.close()
        return resumed

    assert run_child(in_one_kernel) == [None, 5, 5, 12, 12, 12]


@pytest.mark.train
def test_the_training_cell_run_again_after_an_interrupt_goes_on_in_the_same_session(tmp_path, monkeypatch):
    import lightning

    from tests.runtime.training.training_support import Tiny, TinyData, run_child

    class Interrupt(lightning.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    def in_one_session() -> list[tuple[int | None, int, str]]:
        session, reports = open_toy(tmp_path, accelerator="cpu"), []
        for cell, callbacks in ((7, [Interrupt()]), (7, []), (8, []), (9, [])):
            monkeypatch.setattr("nbkit.runtime.session.cell_number", lambda cell=cell: cell)
            report = session.fit(Tiny(), TinyData(), max_steps=12, callbacks=callbacks)
            reports.append((report.resumed_from, report.step, report.reason))
        assert session.close()["complete"]
        return reports

    stopped = [(None, 5, "SIGINT"), (5, 5, "SIGINT")]  # a loop in the same cell stays interrupted
    assert run_child(in_one_session) == [*stopped, (5, 12, "complete"), (12, 12, "complete")]


def test_a_second_notebook_on_the_same_store_is_named_and_begins_at_the_other_end(tmp_path, capsys):
    first = open_toy(tmp_path)
    opened: list[Session] = []
    for options in ({}, {"shard": "1/2"}, {"store": tmp_path / "other"}):
        thread = threading.Thread(target=lambda options=options: opened.append(open_toy(tmp_path, **options)))
        thread.start()
        thread.join()
        named = "1 other session of toy on this machine has this store open" in capsys.readouterr().out
        assert named == (options == {})
    second, shard, other = opened
    seen: dict[Session, list[str]] = {session: [] for session in (first, second, shard, other)}
    for session in seen:
        run(session, seen=seen[session])
    keys = [row["key"] for row in ROWS]
    assert seen[first] == seen[other] == keys and seen[second] == keys[::-1] and seen[shard] == sorted(seen[shard])
    assert all(session.close()["complete"] for session in seen)


def test_the_open_cell_run_twice_and_a_failing_opening_leave_one_session(tmp_path, monkeypatch):
    first = open_toy(tmp_path)
    second = open_toy(tmp_path)
    assert first._closed and not second._closed and second.folder == first.folder
    with monkeypatch.context() as patch:
        patch.setattr("nbkit.runtime.session.opening_card", lambda *facts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_toy(tmp_path)
    third = open_toy(tmp_path)
    assert third.folder == first.folder and third.close()["done"] == 0
    assert not opened_module._open


def test_sessions_of_other_phases_shards_stores_folders_and_threads_stay_open(tmp_path):
    """Two notebooks in one kernel, and parallel sessions in one process, are no rerun of a cell."""
    first = open_toy(tmp_path)
    others = [
        nbkit.open_session("other", store=tmp_path / "store", folder=tmp_path / "work"),
        open_toy(tmp_path, shard="1/2"),
        open_toy(tmp_path, store=tmp_path / "b"),
        open_toy(tmp_path, folder=tmp_path / "c"),
    ]
    thread = threading.Thread(target=lambda: others.append(open_toy(tmp_path)))
    thread.start()
    thread.join()
    assert len(others) == 5
    run(first)
    assert [session.close()["complete"] for session in [first, *others]] == [True] * 6
