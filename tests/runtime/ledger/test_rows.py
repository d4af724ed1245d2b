"""Rows that changed under their keys are noticed, and nothing else is taken for a change."""

from __future__ import annotations

import random
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.manifest import read_manifest
from nbkit.runtime.ledger.rows import Rows
from nbkit.runtime.ledger.segments import LedgerState, read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.verify import verify_store
from tests.runtime.children import die, fork, reap

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=8)
TABLES = st.lists(st.fixed_dictionaries({"path": CELL, "n": CELL}), min_size=1, max_size=5)


def rows(paths: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "path": path} for key, path in paths.items()]


def keyed(table: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"key": f"k{i}", "path": row["path"], "n": row["n"]} for i, row in enumerate(table)]


def digests(table: list[dict[str, str]]) -> list[int]:
    return list(read_manifest(table).digests())


@given(TABLES, st.data())
def test_a_digest_is_of_all_cells_and_of_nothing_else(table, data):
    table = keyed(table)
    other_order = [{name: row[name] for name in ("n", "key", "path")} for row in table]
    assert digests(other_order) == digests(table)
    which = data.draw(st.integers(0, len(table) - 1))
    changed = [dict(row) for row in table]
    changed[which]["n"] = data.draw(CELL)
    same = [one == other for one, other in zip(digests(changed), digests(table), strict=True)]
    if not any(
        cell.startswith("/") or cell[1:3] == ":\\" for row in (changed[which], table[which]) for cell in row.values()
    ):
        assert same == [one == other for one, other in zip(changed, table, strict=True)]
    moved = [row | {"n": row["path"], "path": row["n"]} for row in table]
    assert (digests(moved) == digests(table)) == (moved == table) or any(
        "/" in str(row) or "\\" in str(row) for row in table
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/kaggle/input/hbn/sub-1/eeg.set", "/content/drive/hbn/sub-1/eeg.set", True),
        ("C:\\data\\sub-1\\eeg.set", "/data/sub-1/eeg.set", True),
        ("/data/v1/eeg.set", "/data/v2/eeg.set", False),
        ("hbn/v1.set", "hbn/v2.set", False),
        ("hbn/sub-1/a.set", "old/sub-1/a.set", False),
    ],
)
def test_files_in_another_place_of_another_host_are_the_same(one, other, same):
    (now,) = digests(rows({"a": other}))
    made = Rows({"a": digests(rows({"a": one}))[0]})
    assert (made.changed(["a"], [now], bool) == {}) == same
    assert made.moved(["a"], [now], bool) == ({"a": now} if same else {})
    of_an_earlier_version = Rows({"a": made.made["a"] & (2**32 - 1)})
    assert (of_an_earlier_version.changed(["a"], [now], bool) == {}) == same
    assert not of_an_earlier_version.moved(["a"], [now], bool)


@pytest.fixture
def work(tmp_path):
    machines = iter(range(100))

    def once(paths: dict[str, str], **options) -> list[str]:
        """Do all pending items on a new machine; return their keys."""
        session, did = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / f"{next(machines)}"), []
        with session:
            for item in session.work(rows(paths), **options):
                with item:
                    did.append(item.key)
                    item.save(x=[ord(item["path"][-1])])
        return did

    return once


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/data/v1/sub-1/a.set", "/data/v2/sub-1/a.set"),
        ("C:\\d\\v1\\s\\a.set", "C:\\d\\v2\\s\\a.set"),
        ("/\udcff/s/a", "/data/s/a"),
    ],
)
def test_another_folder_of_the_same_files_is_said_and_both_ways_out_are_open(work, capfd, one, other):
    work({"a": one, "b": "same"})
    assert work({"a": other, "b": "same"}) == []
    said = "".join(capfd.readouterr())
    assert "1 done item lay in another folder when they were done (a; now " in said
    assert work({"a": one, "b": "same"}) == [] and "another folder" not in "".join(capfd.readouterr())
    assert work({"a": other, "b": "same"}, accept_changes=True) == [] and work({"a": other, "b": "same"}) == []
    assert "another folder" not in "".join(capfd.readouterr())
    assert work({"a": "/x" + other[2:], "b": "same"}, redo_changed=True) == ["a"]


def test_changes_are_accepted_by_the_parameter_of_a_session_too(work, tmp_path):
    work({"a": "v1"})
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "accepting", resume="accept")
    with session:
        assert not list(session.work(rows({"a": "v2"})))
    assert work({"a": "v2"}) == []


V1, V2 = {"a": "v1", "b": "v1"}, {"a": "v2", "b": "v1"}


def test_a_changed_row_is_refused_by_name_before_the_work(work, tmp_path):
    assert work(V1) == ["a", "b"] and work(V1) == []
    with pytest.raises(UsageError, match="(?s)The row of 1 item of p .*: a.*accept_changes=True.*redo_changed=True"):
        work(V2 | {"c": "v1"})
    assert set(read_state(FolderStore(tmp_path / "store"), "p", tmp_path / "look").done) == {"a", "b"}
    assert work(V1 | {"c": "v1"}) == ["c"], "set back, it goes on"


def test_a_new_column_is_a_change_like_a_new_setting(work, tmp_path):
    work(V1)
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    with session, pytest.raises(UsageError, match="The row of 2 items"):
        next(session.work([row | {"sfreq": 100} for row in rows(V1)]))


def test_accepted_changes_stay_accepted_and_later_ones_do_not(work):
    work(V1)
    assert work(V2, accept_changes=True) == [] and work(V2) == [] and work(V1) == []
    with pytest.raises(UsageError, match="The row of 1 item"):
        work(V1 | {"a": "v3"})


def test_changed_items_are_done_again_and_what_they_were_counts_no_more(work, tmp_path):
    work(V1)
    assert work(V2, redo_changed=True) == ["a"] and work(V2) == []
    with pytest.raises(UsageError, match="The row of 1 item"):
        work(V1)
    assert not verify_store(str(tmp_path / "store")).faults
    assert work(V1, redo_changed=True) == ["a"] and work(V1) == []
    assert not verify_store(str(tmp_path / "store")).faults


def test_items_that_a_kill_left_on_this_machine_are_compared_too(tmp_path):
    def killed() -> None:
        session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
        session.outbox.send_item = lambda key: None
        for item in session.work(rows(V1)):
            with item:
                item.save(x=[1])
        die()

    assert reap(fork(killed, tmp_path / "log")) == -signal.SIGKILL, (tmp_path / "log").read_text()
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    with session, pytest.raises(UsageError, match="The row of 1 item of p .*: a"):
        next(session.work(rows(V2)))


def test_both_at_once_is_refused(work):
    with pytest.raises(UsageError, match="one of accept_changes and redo_changed"):
        work(V1, accept_changes=True, redo_changed=True)


def test_items_of_earlier_versions_have_no_digest_and_are_accepted(tmp_path, work):
    state = LedgerState()
    state.add("old", [(1, {"e": "done", "k": "a", "o": []})])
    assert state.rows.changed(["a"], [1], lambda key: True) == {}


@given(st.randoms())
def test_the_order_of_records_does_not_matter(rng: random.Random):
    records = [{"e": "done", "k": "a", "o": [], "row": 5, "v": "v1"},
               {"e": "done", "k": "a", "o": [], "row": 7, "v": "v2"},
               {"e": "lost", "k": "a", "r": 1}, {"e": "done", "k": "a", "o": [], "row": 3, "r": 1, "v": "v3"},
               {"e": "lost", "k": "b", "r": 1}, {"e": "settings", "settings": {"a": 1}, "beside": ["v1"]},
               {"e": "settings", "settings": {"a": 1}, "beside": ["v2"]}, {"e": "settings", "settings": {"a": 1}},
               {"e": "kept", "rows": {"a": 9}}, {"e": "done", "k": "b", "o": [], "v": "v1"}]  # fmt: skip
    kept = [record for record in records if rng.random() < 0.7]

    def rows_of(order: list[dict]) -> object:
        state = LedgerState()
        for number, record in enumerate(order, 1):
            state.add(f"s{number}", [(number, record)])
        made = {version: keys for version, keys in state.made.keys.items() if keys}
        assert {key for keys in made.values() for key in keys} == state.done.keys(), "of what is lost nothing counts"
        return state.rows, state.done, made, state.made_with, state.beside

    assert rows_of(rng.sample(kept, len(kept))) == rows_of(kept)
