"""What a session was asked to do counts at its end: all manifests of it, and whether a call was refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.working import Wanted
from nbkit.runtime.ledger.manifest import read_manifest
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.listing import Listing
from nbkit.tools.status.status import PhaseStatus, read_phase

FIRST, SECOND = [{"key": f"a{i}"} for i in range(4)], [{"key": f"b{i}"} for i in range(2)]
TWICE = [{"key": "a"}, {"key": "a"}]


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one(**options):
        options = {"store": tmp_path / "store", "folder": tmp_path / f"work-{len(sessions)}"} | options
        sessions.append(nbkit.open_session("toy", **options))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session._leave()


@pytest.fixture
def status(tmp_path):
    def read() -> PhaseStatus:
        return read_phase(Listing(FolderStore(tmp_path / "store")), "toy", None, tmp_path / "look")

    return read


def do(session, rows, but=(), most=99, **options) -> None:
    for done, item in enumerate(session.work(rows, **options), 1):
        with item:
            if item.key in but:
                raise ValueError("bad")
            item.save(x=np.arange(2))
        if done == most:
            break


@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=4))
def test_the_keys_of_all_manifests_are_wanted_once(manifests):
    wanted = Wanted()
    for keys in manifests:
        wanted.add(read_manifest([{"key": key} for key in keys]))
    assert wanted.keys == list(dict.fromkeys(key for keys in manifests for key in keys))


@pytest.mark.parametrize(
    ("loops", "left"),
    [
        ([(FIRST, {"most": 1}), (SECOND, {})], 3),
        ([(FIRST, {"but": ["a1"]}), (SECOND, {})], 1),
        ([(SECOND, {}), (FIRST, {"most": 1})], 3),
        ([(FIRST, {"most": 1}), (SECOND, {"most": 1})], 4),
        ([(FIRST[:1], {}), (FIRST, {})], 0),
        ([(FIRST, {"most": 1}), (FIRST, {})], 0),
        ([(FIRST, {"but": ["a1"]}), (SECOND, {}), (FIRST, {})], 0),
    ],
)
def test_what_any_loop_of_a_session_left_is_left_at_its_end(opened, status, loops, left):
    session = opened()
    for rows, options in loops:
        do(session, rows, **options)
    summary = session.close()
    assert (summary["left"], summary["complete"], summary["exit"]) == (left, not left, 3 if left else 0)
    assert (status().left, status().state) == (left, "work left" if left else "complete")
    again = opened()
    for rows, _ in loops:
        do(again, rows)
    assert again.close()["complete"] and status().state == "complete"


def test_an_item_that_failed_for_good_in_an_earlier_loop_is_told(opened):
    for _ in range(3):
        session = opened()
        do(session, FIRST, but=["a1"])
        do(session, SECOND)
        summary = session.close()
    assert (summary["left"], summary["failed"], summary["exit"]) == (0, 1, 1)


def refusals(tmp_path):
    (tmp_path / "toy.tsv").write_text("key\tpath\n# none\n")
    return [
        lambda session: session.work(TWICE),
        lambda session: session.work(None),
        lambda session: session.work(FIRST, item_limit="soon"),
        lambda session: session.work(FIRST, settings={"f": len}),
        lambda session: session.work(tmp_path / "toy.tsv"),
        lambda session: session.map(None, FIRST),
        lambda session: session.map(dict, FIRST, executor=5),
        lambda session: session.map(dict, FIRST, ThreadPoolExecutor(1), at_once=0),
        lambda session: session.map(dict, TWICE, ThreadPoolExecutor(1)),
    ]


@pytest.mark.parametrize("which", range(9))
@pytest.mark.parametrize("closing", ["close", "leave"])
def test_a_session_whose_work_was_refused_is_not_complete_and_counts_nowhere(
    opened, status, tmp_path, capfd, which, closing
):
    session = opened()
    with pytest.raises(UsageError, match="Nothing was begun|is not valid"):
        refusals(tmp_path)[which](session)
    if closing == "close":
        summary = session.close()
        assert (summary["complete"], summary["exit"], summary["reason"]) == (False, 2, "refused")
        assert "correct what was refused" in capfd.readouterr().out
    else:
        session._leave()
    assert (status().state, status().sessions, status().killed) == ("not begun", 0, 0)
    opened()
    assert "0 before this one, 0 of them ended without closing" in capfd.readouterr().out


def test_a_mistake_after_work_is_no_end_and_its_correction_makes_it_good(opened, status):
    for corrected in (False, True):
        session = opened()
        do(session, SECOND)
        with pytest.raises(UsageError):
            session.work(TWICE)
        if corrected:
            do(session, FIRST)
        summary = session.close()
        told = (summary["complete"], summary["exit"], summary["reason"])
        assert told == ((True, 0, "complete") if corrected else (False, 2, "mistake"))
        assert status().state == ("complete" if corrected else "work left")
    assert status().sessions == 2


def test_a_session_that_changed_rows_ended_counts_nowhere(opened, status, capfd):
    session = opened()
    do(session, [{"key": "a", "path": "v1"}])
    session.close()
    changed = opened()
    with pytest.raises(UsageError, match="The row of 1 item of toy"):
        changed.work([{"key": "a", "path": "v2"}])
    changed._leave()
    assert (status().sessions, status().killed) == (1, 0)
    opened()
    assert "1 before this one, 0 of them ended without closing" in capfd.readouterr().out


@pytest.mark.parametrize("error", [UsageError("other settings"), KeyboardInterrupt(), RuntimeError("no memory")])
def test_a_training_that_broke_off_leaves_no_complete_session(opened, status, monkeypatch, error):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr("nbkit.runtime.training.fit.fit", fit)
    session = opened()
    with pytest.raises(type(error)):
        session.fit(None, None, log=False)
    summary, refused = session.close(), isinstance(error, UsageError)
    told = (summary["complete"], summary["exit"], summary["reason"])
    assert told == (False, *((2, "refused") if refused else (3, "left")))
    assert status().sessions == (0 if refused else 1)


def test_no_row_is_said_where_it_may_be_meant(opened, capfd):
    session = opened()
    do(session, [])
    assert "The manifest of toy has no row" in capfd.readouterr().out and session.close()["complete"]


ROWS = [{"key": "a", "path": "v1"}, {"key": "b", "path": "v1"}]
CHANGES = {
    "rows": ([{"key": "a", "path": "v2"}, ROWS[1]], {"sfreq": 100}, "The row of 1 item"),
    "settings": (ROWS, {"sfreq": 200}, "sfreq was 100, now 200"),
    "both": ([{"key": "a", "path": "v2"}, ROWS[1]], {"sfreq": 200}, "sfreq was 100, now 200"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("how", ["code", "parameter", "flag", "flag over parameter"])
def test_changes_are_accepted_however_it_is_said_and_stay_accepted(opened, monkeypatch, what, how):
    rows, settings, words = CHANGES[what]
    session = opened()
    do(session, ROWS[:1], settings={"sfreq": 100})
    session.close()
    with pytest.raises(UsageError, match=f"(?s){words}.*RESUME = 'accept'.*--accept-changes.*accept_changes=True"):
        opened().work(rows, settings=settings)
    accepting = {"code": {}, "parameter": {"resume": "accept"}, "flag": {}, "flag over parameter": {"resume": "exact"}}
    with monkeypatch.context() as patch:
        if "flag" in how:
            patch.setenv("NBKIT_RESUME", "accept")
        session = opened(**accepting[how])
        do(session, rows, settings=settings, accept_changes=how == "code")
    assert session.close()["done"] == 2
    session = opened()
    do(session, rows, settings=settings)
    assert session.close()["complete"], "what was accepted once stays so"
    if what != "rows":
        with pytest.raises(UsageError, match="sfreq was (200, now 100|100, now 300|200, now 300)"):
            opened().work(rows, settings={"sfreq": 300})


def test_the_flag_over_an_accepting_parameter_refuses(opened, monkeypatch):
    session = opened()
    do(session, ROWS)
    session.close()
    monkeypatch.setenv("NBKIT_RESUME", "exact")
    with pytest.raises(UsageError, match="The row of 1 item"):
        opened(resume="accept").work(CHANGES["rows"][0])
