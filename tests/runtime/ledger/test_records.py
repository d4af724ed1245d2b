"""A checksum is no proof of form: whatever a store holds, it is read, what is odd is named, and the rest counts."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.ledger.merging import merge_finished
from nbkit.runtime.ledger.records import FORMAT, fault_of
from nbkit.runtime.ledger.segments import MERGED, encode_line, read_state
from nbkit.tools.dispatching.dispatch import look_at_phases
from nbkit.tools.report.page import write_report
from nbkit.tools.status.past_sessions import CountedState
from nbkit.tools.status.status import read_status
from nbkit.tools.status.verify import verify_store
from tests.runtime.ledger.odd_records import HEALTHY, MERGED_ODD, ODD, healthy, plant, records, whole_line
from tests.runtime.store.faulty_store import FaultyStore

GOOD = encode_line({"e": "done", "k": "beside", "o": [["p/items/good.npz", 7, "aa"]]})


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def check_healthy(state: CountedState) -> None:
    assert set(state.done) >= {"good"} and state.failures["bad"] == 1 and state.errors["bad"] == "ValueError: no"
    assert state.sessions[HEALTHY]["close"]["left"] == 1 and state.tallies[HEALTHY].items == 1


@pytest.mark.parametrize("what", ODD)
def test_an_odd_line_is_named_and_its_neighbours_count(tmp_path, what):
    store = healthy(tmp_path / "store")
    name = plant(store, [GOOD, ODD[what], GOOD.replace("beside", "after")])
    state = read_state(store, "p", tmp_path / "cache", CountedState())
    check_healthy(state)
    assert set(state.done) == {"good", "beside", "after"} and set(state.failures) == {"bad"} and not state.deaths
    assert list(state.damaged) == [name] and "1 line skipped" in state.damaged[name]
    assert "line 2" in state.damaged[name] and len(state.damaged[name]) < 400 and state.damaged[name].isprintable()
    assert ("newer nbkit" in state.damaged[name]) == (what == "a newer format")
    counting = FaultyStore(store)
    read_state(counting, "p", tmp_path / "empty", state)
    assert not counting.calls["get"], "what was read is not read again at every look"


@pytest.mark.parametrize("what", ODD)
def test_an_odd_line_under_the_numbers_of_a_healthy_one_hides_nothing(tmp_path, what):
    store = healthy(tmp_path / "store")
    plant(store, [ODD[what]], HEALTHY, first=1)
    plant(store, [ODD[what]] * 4, HEALTHY, first=1)
    check_healthy(read_state(store, "p", tmp_path / "cache", CountedState()))


@pytest.mark.parametrize("what", MERGED_ODD)
def test_an_odd_merged_segment_hides_no_session(tmp_path, what):
    store = healthy(tmp_path / "store")
    plant(store, [MERGED_ODD[what]], MERGED, first=10**9)
    check_healthy(read_state(store, "p", tmp_path / "cache", CountedState()))
    session = nbkit.open_session("p", store=store.root, folder=tmp_path / "work")
    session.close()
    assert list(store.list(f"p/ledger/{HEALTHY}/")), "nothing of a session was deleted"


def test_a_session_with_odd_lines_is_not_merged(tmp_path, monkeypatch):
    monkeypatch.setattr("nbkit.runtime.ledger.merging.ENOUGH", 1)
    store = healthy(tmp_path / "store")
    state = read_state(store, "p", tmp_path / "cache")
    assert merge_finished("p", tmp_path / "cache", state) is not None
    plant(store, [ODD["a list as key"]], HEALTHY, first=9)
    state = read_state(store, "p", tmp_path / "cache")
    assert merge_finished("p", tmp_path / "cache", state) is None


def every_reader(store, folder: Path) -> None:
    for row in read_status(store, ["p"]):
        assert row.done >= 1 and row.failed >= 1
    verify_store(store)
    write_report(store, folder / "page.html", ["p"])
    session = nbkit.open_session("p", store=store.root, folder=folder / "work", smoke=True)
    assert "good" in session.ledger.state.done
    for item in session.work([{"key": "good"}, {"key": "bad"}, {"key": "new"}]):
        with item:
            item.skip("nothing to do")
    session.close()


@pytest.mark.parametrize("kinds", [ODD, MERGED_ODD])
def test_every_reader_of_a_store_survives_all_odd_lines(tmp_path, kinds, capsys):
    store = healthy(tmp_path / "store")
    for number, line in enumerate(kinds.values()):
        plant(store, [line], MERGED if kinds is MERGED_ODD else f"20260102T000000-{number:08x}", 10**9 + number)
    every_reader(store, tmp_path)
    if kinds is ODD:
        assert capsys.readouterr().out.count("skipped") >= len(ODD), "each is named on the card"


@given(st.lists(st.lists(records(), min_size=1, max_size=3), min_size=1, max_size=8), st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_json_with_right_checksums_leaves_the_healthy_records_as_they_are(segments, merged, same):
    with TemporaryDirectory() as folder:
        store = healthy(Path(folder, "store"))
        for number, some in enumerate(segments):
            session = MERGED if merged else HEALTHY if same else f"20260102T000000-{number:08x}"
            plant(store, [whole_line(value) for value in some], session, 100 * (number + 1))
        state = read_state(store, "p", Path(folder, "cache"), CountedState())
        assert "good" in state.done and state.failures["bad"] >= 1
        for key, outputs in state.done.items():
            assert isinstance(key, str) and all(output[0].startswith("p/") for output in outputs)


@given(st.lists(records(), min_size=1, max_size=12), st.booleans())
@settings(max_examples=8, deadline=None)
def test_every_reader_survives_any_json_with_right_checksums(values, merged):
    with TemporaryDirectory() as folder:
        store = healthy(Path(folder, "store"))
        for number, value in enumerate(values):
            session = MERGED if merged else f"20260102T000000-{number:08x}"
            plant(store, [whole_line(value)], session, 100 * (number + 1))
        every_reader(store, Path(folder))


@given(records())
@settings(max_examples=150)
def test_a_record_fits_or_its_fault_is_one_short_line(value):
    for merged in (False, True):
        fault = fault_of(value, "p", merged)
        assert fault is None or (fault and fault.isprintable() and len(fault) < 200)


def test_the_dispatcher_reads_what_is_left_of_a_phase_with_odd_records(tmp_path):
    store = healthy(tmp_path / "store")
    moved = store.root / "eeg_windows"
    (store.root / "p").rename(moved)
    for number, line in enumerate(ODD.values()):
        plant(store, [line], f"20260102T000000-{number:08x}")
    for path in (store.root / "p" / "ledger").iterdir():
        path.rename(moved / "ledger" / path.name)
    seen = look_at_phases(None, store, None)
    work, progress = seen.work, seen.progress
    assert {one.slug for one in work} and "eeg_windows" in progress


def test_every_record_that_is_written_fits(tmp_path):
    store = tmp_path / "store"
    for shard in (None, "1/2"):
        session = nbkit.open_session("p", store=store, folder=tmp_path / "work", limit="9h", shard=shard)
        for item in session.work([{"key": "a"}, {"key": "b"}, {"key": "c"}], settings={"sfreq": 100}):
            with item:
                if item.key == "b":
                    raise ValueError("no \udcff")
                item.save(x=[1])
        session.close()
    state = read_state(nbkit.runtime.store.folder.FolderStore(store), "p", tmp_path / "cache")
    assert not state.damaged and state.sessions and state.settings and FORMAT == 1
