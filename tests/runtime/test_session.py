"""What a notebook sees of a session: clear refusals, nothing lost between cells and sessions."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of

import nbkit
from nbkit.runtime.errors import DamagedError, NbkitError, UsageError
from nbkit.runtime.items.arrays import write_arrays
from nbkit.runtime.items.work import Item
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.past_sessions import CountedState, past_sessions
from tests.runtime.children import die, fork, reap

ROWS = [{"key": f"k{i}", "n": str(i)} for i in range(6)]


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one(slug: str = "toy", **options):
        options = {"store": tmp_path / "store", "folder": tmp_path / "work"} | options
        sessions.append(nbkit.open_session(slug, **options))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session._leave()


def do(session, rows=ROWS, **options) -> dict:
    for item in session.work(rows, **options):
        with item:
            item.save(x=np.arange(int(item["n"])))
    return session.close()


def test_items_are_done_once_and_the_next_session_finds_nothing_to_do(opened, tmp_path, capfd):
    summary = do(opened())
    assert summary == summary | {"complete": True, "done": 6, "left": 0, "failed": 0, "not_stored": [], "exit": 0}
    again = opened(folder=tmp_path / "another machine")
    assert [item.key for item in again.work(ROWS)] == []
    assert again.close()["complete"]
    said = capfd.readouterr().out
    assert "6 done" in said and "1 before this one, 0 of them ended without closing" in said


def test_an_item_that_raises_is_recorded_and_the_loop_goes_on(opened, capfd):
    for attempt in range(4):
        session, seen = opened(), []
        for item in session.work(ROWS):
            with item:
                seen.append(item.key)
                if item.key == "k2":
                    raise ValueError("no channel named Cz")
                item.save(x=[1])
        summary = session.close()
        assert seen == (["k0", "k1", "k2", "k3", "k4", "k5"] if attempt == 0 else ["k2"] if attempt < 3 else [])
    assert (summary["failed"], summary["left"], summary["exit"], summary["complete"]) == (1, 0, 1, True)
    assert "k2: ValueError: no channel named Cz" in capfd.readouterr().out
    session = opened()
    assert [item.key for item in _with(session.work(ROWS, retry_failed=True))] == ["k2"]


def test_a_message_of_megabytes_is_shown_and_recorded_by_its_ends(opened, capfd):
    session = opened()
    for item in session.work(ROWS[:1]):
        with item:
            raise ValueError("the beginning" + "x" * 50_000_000 + "the end")
    said, recorded = "".join(capfd.readouterr()), session.ledger.state.errors["k0"]
    assert len(said) < 3000 and "the beginning" in said and "the end" in said and "characters left out" in said
    assert len(recorded) < 5000 and "Traceback" in recorded and recorded.rstrip().endswith("the end")


def test_a_clock_that_is_set_does_not_change_a_sessions_length(opened, tmp_path, monkeypatch):
    session, real = opened(), time.time
    monkeypatch.setattr(time, "time", lambda: real() - 157_680_000)
    do(session)
    state = read_state(FolderStore(tmp_path / "store"), "toy", tmp_path / "check", CountedState())
    assert 0 < past_sessions(state)[0].length < 60


def _with(items):
    for item in items:
        with item:
            yield item
            item.skip("test")


def test_arrays_may_have_any_name(opened, tmp_path):
    """numpy.savez takes names as arguments: "file" was refused there, and "allow_pickle" lost."""
    arrays = {
        name: np.arange(n + 3, dtype=np.float32) for n, name in enumerate(("self", "file", "allow_pickle", "args"))
    }
    session = opened()
    for item in session.work(ROWS[:1]):
        with item:
            item.save(**arrays)
    session.close()
    with np.load(tmp_path / "store" / "toy" / "items" / "k0.npz") as stored:
        assert set(stored) == set(arrays) and all((stored[name] == array).all() for name, array in arrays.items())


@given(st.dictionaries(st.sampled_from("abcd"), arrays_of(np.float32, (2, 3)), min_size=1))
def test_arrays_are_written_as_numpy_writes_them(arrays):
    ours, numpys = io.BytesIO(), io.BytesIO()
    write_arrays(arrays, ours)
    np.savez(numpys, **arrays)
    with np.load(io.BytesIO(ours.getvalue())) as stored, np.load(io.BytesIO(numpys.getvalue())) as expected:
        assert list(stored) == list(expected)
        assert all(stored[name].tobytes() == expected[name].tobytes() for name in expected)


def test_what_is_no_result_is_said(opened, tmp_path, capfd):
    session = opened()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        (tmp_path / folder / "x.fif").write_text(folder)
    wrong = {
        "k0": (lambda item: None, "ended without a result"),
        "k1": (lambda item: item.save(), "got no results"),
        "k2": (lambda item: item.save(x=object()), "dtype object"),
        "k3": (lambda item: item.save(x=tmp_path / "nothing.fif"), "which does not exist"),
        "k4": (lambda item: item.save(one=tmp_path / "a" / "x.fif", two=tmp_path / "b" / "x.fif"), "two files called"),
        "k5": (lambda item: [item.save(x=[1]), item.save(y=[1])], "saved already"),
    }
    for item in session.work(ROWS):
        with item:
            wrong[item.key][0](item)
    said = "".join(capfd.readouterr())
    for key, (_, words) in wrong.items():
        assert f"item {key} failed: UsageError" in said and words in said, key
    assert session.close()["left"] == 6
    assert not read_state(FolderStore(tmp_path / "store"), "toy", tmp_path / "check").done


def test_a_loop_without_with_is_refused_before_it_runs_through_everything(opened):
    session = opened()
    with pytest.raises(UsageError, match="Item k0 was passed over.*'with item:'"):
        for item in session.work(ROWS):
            item.save(x=[1])


def test_a_column_that_is_not_there_names_those_that_are(opened, capfd):
    session = opened()
    for item in session.work(ROWS[:1]):
        with item:
            item["path"]
    assert "no column 'path'; it has key, n" in "".join(capfd.readouterr())


@given(st.dictionaries(st.text(), st.text()), st.text(), st.text())
def test_an_item_reads_like_the_dict_of_its_row(row, column, default):
    row = {**row, "key": "k"}
    item = Item(row, SimpleNamespace(ledger=None))
    assert dict(item) == row and len(item) == len(row) and item == row
    assert item.get(column, default) == row.get(column, default) and item.get(column) == row.get(column)
    assert (column in item) == (column in row)
    if column in row:
        assert item[column] == row[column]
        return
    with pytest.raises(KeyError) as caught:
        item[column]
    assert isinstance(caught.value, NbkitError) and caught.value.exit_code == 2
    assert str(caught.value).startswith("The manifest has no column ") and repr(column) in str(caught.value)


def test_files_are_kept_beside_arrays_and_found_by_another_phase(opened, tmp_path):
    session = opened()
    for item in session.work(ROWS[:2]):
        with item:
            made = tmp_path / "made.txt"
            made.write_text(item.key)
            item.save(x=[1, 2], text=made)
    session.close()
    paths = opened("other", folder=tmp_path / "elsewhere").inputs("toy")
    assert [p.relative_to(tmp_path / "store" / "toy" / "items").as_posix() for p in paths] == [
        "k0.npz", "k0/made.txt", "k1.npz", "k1/made.txt"]  # fmt: skip
    (tmp_path / "store" / "toy" / "items" / "k0.npz").write_bytes(b"hurt")
    with pytest.raises(DamagedError, match="(?s)k0.npz.*is not what was recorded.*nbkit verify"):
        opened("other", folder=tmp_path / "third").inputs("toy")
    with pytest.raises(UsageError, match="has no outputs of nowhere"):
        opened("other", folder=tmp_path / "fourth").inputs("nowhere")


def test_other_settings_than_those_of_the_done_items_are_refused(opened):
    do(opened(), ROWS[:3], settings={"sfreq": 100, "stride": 1.0})
    with pytest.raises(UsageError, match="(?s)sfreq was 100, now 200.*Set them back.*Nothing was changed"):
        list(opened().work(ROWS, settings={"sfreq": 200, "stride": 1.0}))
    with pytest.raises(UsageError, match="new was None, now 1"):
        list(opened().work(ROWS, settings={"sfreq": 100, "stride": 1.0, "new": 1}))
    assert do(opened(), settings={"stride": 1.0, "sfreq": 100})["complete"]


def test_settings_under_which_nothing_was_made_bind_nobody(opened):
    session = opened()
    for item in session.work(ROWS, settings={"sfreq": 100}):
        with item:
            raise ValueError("wrong setting")
    session.close()
    assert do(opened(), settings={"sfreq": 200})["done"] == 6
    assert do(opened(), settings={"sfreq": 200})["complete"], "the first try does not lock the second out"
    with pytest.raises(UsageError, match="sfreq was 200, now 100"):
        list(opened().work(ROWS, settings={"sfreq": 100}))


def test_settings_of_an_item_that_a_kill_left_here_bind_too(opened, tmp_path):
    def killed() -> None:
        session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
        session.outbox.send_item = lambda key: None
        for item in session.work(ROWS, settings={"sfreq": 100}):
            with item:
                item.save(x=[1])
            die()

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL, (tmp_path / "log").read_text()
    with pytest.raises(UsageError, match="sfreq was 100, now 200"):
        list(opened().work(ROWS, settings={"sfreq": 200}))


def test_scores_of_a_killed_session_are_in_the_next_ones_results(opened, tmp_path):
    def killed() -> None:
        session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
        session._raw_store.put = session.outbox._put = lambda *_: time.sleep(30)
        session.result("a", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
        die()

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL, (tmp_path / "log").read_text()
    session = opened()
    session.result("b", 2.0, unit="1", baseline=0.0, baseline_is="nothing")
    session.close()
    metrics = json.loads((tmp_path / "store" / "toy" / "results.json").read_text())["metrics"]
    assert set(metrics) == {"a", "b"}


def test_many_scores_in_a_row_all_arrive(opened, tmp_path):
    session = opened()
    for i in range(30):
        session.result(f"m{i}", i, unit="1", baseline=0.0, baseline_is="nothing")
    session.note(data="synthetic stand-in")
    assert session.close()["not_stored"] == []
    content = json.loads((tmp_path / "store" / "toy" / "results.json").read_text())
    assert len(content["metrics"]) == 30 and content["data"] == "synthetic stand-in"


def test_sigterm_ends_the_loop_at_the_next_item_and_loses_nothing(opened, tmp_path):
    def child() -> None:
        before = signal.getsignal(signal.SIGTERM)
        session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
        for item in session.work(ROWS):
            with item:
                if item.key == "k2":
                    os.kill(os.getpid(), signal.SIGTERM)
                item.save(x=[1])
        summary = session.close()
        assert (summary["reason"], summary["exit"], summary["done"], summary["left"]) == ("SIGTERM", 3, 3, 3), summary
        assert signal.getsignal(signal.SIGTERM) == before

    assert reap(fork(child, tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    assert do(opened())["complete"]


def test_a_cell_that_raises_brings_its_items_home_when_the_process_ends(opened, tmp_path):
    def child() -> None:
        session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
        for item in session.work(ROWS):
            with item:
                item.save(x=[1])
                if item.key == "k3":
                    raise KeyboardInterrupt
        raise AssertionError("not reached")

    def ended() -> None:
        import atexit

        try:
            child()
        except KeyboardInterrupt:
            atexit._run_exitfuncs()

    assert reap(fork(ended, tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    assert set(read_state(FolderStore(tmp_path / "store"), "toy", tmp_path / "check").done) == {"k0", "k1", "k2"}


def test_a_session_that_was_left_no_longer_takes_the_signal(opened):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="a cell"), opened():
        assert signal.getsignal(signal.SIGTERM) != before
        raise RuntimeError("a cell")
    assert signal.getsignal(signal.SIGTERM) == before, "a process must still end when it is told to"


@pytest.mark.parametrize("workers", [1, 4])
def test_map_through_an_executor(opened, workers):
    def process(row):
        if row["key"] == "k1":
            raise ValueError("bad")
        return {"x": np.arange(int(row["n"]))}

    session = opened()
    with ThreadPoolExecutor(workers) as pool:
        session.map(process, ROWS, executor=pool)
    assert session.close()["done"] == 5
    session = opened()
    session.map(lambda row: {"x": [0]}, ROWS)
    assert session.close()["complete"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"limit": "9x"}, "duration"), ({"accelerator": "tpu"}, "Allowed: gpu"), ({"slug": "No"}, "Phase slug")],
)
def test_wrong_values_are_refused_and_nothing_is_made(tmp_path, options, words):
    options = {"slug": "toy", "store": tmp_path / "store", "folder": tmp_path / "work"} | options
    with pytest.raises(UsageError, match=words):
        nbkit.open_session(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_none_is_refused(opened):
    with pytest.raises(UsageError, match="Shard '3/2' is not valid"):
        list(opened(shard="3/2").work(ROWS))


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NbkitError, match="(?s)needs a folder of its own.*folder=.*Nothing was begun"):
        nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "file")


def test_variables_give_store_and_limit_and_arguments_win(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_STORE", str(tmp_path / "from variable"))
    monkeypatch.setenv("NBKIT_LIMIT", "2h")
    session = opened(store=None)
    assert session.store.url == str(tmp_path / "from variable") and session.budget.limit == 7200
    session = opened(limit="1h")
    assert session.store.url == str(tmp_path / "store") and session.budget.limit == 3600


def test_the_reserve_is_for_the_slowest_of_the_last_endings(opened):
    for seconds in (0.0, 40.0, 5.0):  # of cells after the work
        session = opened(limit="1h")
        session._work_ended -= seconds
        session.close()
    session = opened(limit="1h")
    assert session.budget.estimate("close") >= 40.0
    session.close()


def test_close_twice_is_refused(opened):
    session = opened()
    session.close()
    with pytest.raises(UsageError, match="toy is closed"):
        session.close()


def test_journal_lines_survive_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_JOURNAL", str(tmp_path / "journal"))

    def killed() -> None:
        session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
        for item in session.work(ROWS):
            with item:
                if item.key == "k2":
                    die()
                item.save(x=[1])

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL, (tmp_path / "log").read_text()
    events = [json.loads(line) for line in Path(tmp_path / "journal").read_text().splitlines()]
    assert [e["e"] for e in events] == ["open", "begin", "item", "begin", "item", "begin"]
    assert events[0]["done"] == 0 and events[-1]["key"] == "k2"
