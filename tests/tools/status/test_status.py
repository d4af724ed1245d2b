"""Status: what is done, left and still takes, from a store alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.claims import ALIVE
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.words import last_line
from nbkit.tools.phases import Phase
from nbkit.tools.status.listing import list_once
from nbkit.tools.status.status import read_phase, read_status, write_done
from nbkit.tools.status.table import words

TRAINING = Phase("toy", 1, "Toy", "", (), (), "gpu", 1, 9.0, False, (), ())


@pytest.fixture
def store(tmp_path, monkeypatch) -> FolderStore:
    monkeypatch.chdir(tmp_path)
    return FolderStore(tmp_path / "store")


def write_segment(store: FolderStore, session: str, *records: dict) -> None:
    segment, data = segment_of("toy", session, 1, [encode_line(record) for record in records])
    path = Path(store.path(segment.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_receipt(store: FolderStore, step: int, at: float, session: str = "s", **more) -> None:
    folder = Path(store.path("toy/checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    Receipt("toy", step, 0, step, 3, "0" * 64, max_steps=1000, time=at, session=session, **more).write(folder)


def done(key: str, seconds: float) -> dict:
    return {"e": "done", "k": key, "o": [], "s": seconds}


def test_an_empty_store_has_begun_nothing(tmp_path, store):
    rows = read_status(str(tmp_path / "store"))
    slugs = [row.slug for row in rows]
    assert slugs[:2] == ["start_here", "dispatcher"] and "eeg_windows" in slugs
    assert {row.state for row in rows} == {"not begun"}
    assert not (tmp_path / "store").exists()
    said = words(rows)
    assert said.startswith("No phase has begun") and "not begun: start_here, dispatcher" in said
    assert max(map(len, said.splitlines())) <= 120


def test_done_items_are_written_for_another_project(tmp_path, store):
    write_segment(store, "s", done("b", 1.0), done("a", 1.0), {"e": "failed", "k": "c", "error": "no"})
    said = write_done(list_once(store), ["toy"], tmp_path / "manifest.json", tmp_path / "segments")
    assert json.loads((tmp_path / "manifest.json").read_text("utf-8")) == {"a": "done", "b": "done"}
    assert "2 done items of toy" in said
    with pytest.raises(UsageError, match="0 were named"):
        write_done(list_once(store), None, tmp_path / "other.json", tmp_path / "segments")


def test_a_real_session_is_counted(tmp_path, store):
    rows = [{"key": key} for key in "abcd"]
    session = nbkit.open_session("toy", store=tmp_path / "store")
    for item in session.work(rows):
        with item:
            if item.key == "c":
                raise ValueError("no such channel")
            item.save(x=np.arange(3))
    session.close()
    row = read_status(str(tmp_path / "store"), ["toy"])[0]
    assert (row.done, row.failed, row.sessions, row.killed) == (3, 1, 1, 0)
    assert row.rate > 0


def test_items_left_are_those_of_the_last_close_less_what_was_done_since(tmp_path, store):
    closed = {"e": "close", "t": 40.0, "done": 1, "left": 9}
    write_segment(store, "one", {"e": "open", "t": 1.0}, done("a", 36.0), closed)
    write_segment(store, "two", {"e": "open", "t": 50.0}, done("b", 108.0), done("c", 36.0))
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert (row.done, row.left, row.sessions, row.killed, row.state) == (3, 7, 2, 1, "work left")
    assert row.rate == pytest.approx(60.0) and row.hours_left == pytest.approx(7 / 60) and row.sessions_left == 1


def test_a_session_that_was_heard_lately_is_open_and_not_killed(tmp_path, store):
    opened = {"e": "open", "host": "kaggle", "machine": "m1", "t": time.time() - 3600, "limit": 32400.0, "step": 5}
    write_segment(store, "one", opened, {**ALIVE, "t": time.time() - 50})
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert (row.sessions, row.killed, row.past[0].ended, row.past[0].closed) == (1, 0, "open now", False)
    assert "1 (1 open now)" in words([row]) and "open now: toy: one on kaggle (m1), open since" in words([row])


def test_items_that_were_done_side_by_side_go_by_the_sessions_time(tmp_path, store):
    spread = [done(key, 36.0) for key in "abcd"]
    write_segment(store, "one", {"e": "open", "t": 1.0}, *spread, {"e": "close", "t": 37.0, "done": 4, "left": 8})
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert row.rate == pytest.approx(400.0) and row.hours_left == pytest.approx(8 / 400)


def test_without_any_close_the_manifest_tells_what_is_left(tmp_path, store):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/toy.tsv").write_text("key\n" + "".join(f"{key}\n" for key in "abcdef"))
    write_segment(store, "one", {"e": "open", "t": 1.0}, done("a", 1.0))
    assert read_phase(store, "toy", None, tmp_path / "cache").left == 5


def test_what_nobody_can_know_is_shown_as_unknown(tmp_path, store):
    write_segment(store, "one", {"e": "open", "t": 1.0}, done("a", 1.0))
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert row.left is None and row.hours_left is None
    assert "?" in words([row])


def test_training_goes_by_receipts(tmp_path, store):
    now = time.time()
    write_receipt(store, 100, now - 3600.0)
    write_receipt(store, 200, now)
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert (row.step, row.max_steps, row.state) == (200, 1000, "work left")
    assert row.rate == pytest.approx(100.0) and row.hours_left == pytest.approx(8.0) and row.sessions_left == 1
    assert row.quota_weeks == pytest.approx(8 / 30) and row.checkpoint_age < 60
    assert "step 200" in words([row]) and "quota-weeks" in words([row])


def test_the_time_between_two_sessions_is_no_time_of_training(tmp_path, store):
    write_receipt(store, 100, 0.0, session="one")
    write_receipt(store, 200, 9e6, session="two")
    assert read_phase(store, "toy", TRAINING, tmp_path / "cache").rate is None


def test_a_complete_training_takes_nothing_more(tmp_path, store):
    write_receipt(store, 1000, time.time(), complete=True)
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert row.state == "complete" and row.hours_left == 0.0 and row.quota_weeks == 0.0


def test_a_damaged_receipt_is_passed_over_with_words(tmp_path, store):
    write_receipt(store, 100, 0.0)
    write_receipt(store, 200, 0.0)
    Path(store.path("toy/checkpoints/step-000000200.json")).write_text("{")
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert row.step == 100 and "toy/checkpoints/step-000000200.json" in row.notes[0]


def test_the_rows_are_plain(tmp_path, store):
    write_receipt(store, 100, 0.0)
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert json.loads(json.dumps(row.row()))["step"] == 100


def failed(key: str, at: float, error: str) -> dict:
    return {"e": "failed", "k": key, "t": at, "err": error}


def test_the_newest_error_of_what_is_not_done_since_is_shown(tmp_path, store):
    trace = "Traceback ...\n  line\nValueError: \x1b[31mno channel\n"
    write_segment(store, "one", failed("a", 1.0, "KeyError: old"), failed("b", 3.0, "mended"), failed("c", 2.0, trace))
    write_segment(store, "two", done("b", 1.0))
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert row.error == "c: ValueError: ?[31mno channel" and row.failed == 2
    assert row.error in words([row]) and "\x1b" not in words([row])


def test_an_errors_last_line_is_cut_to_a_lines_length():
    assert last_line("a\n\n" + "x" * 500) == "x" * 197 + "..." and last_line(" \n") == "no message"


def test_shards_are_counted_by_their_own_keys(tmp_path, store):
    rows = [{"key": f"k{i}"} for i in range(40)]
    for shard in ("1/3", "2/3"):
        session = nbkit.open_session("toy", store=tmp_path / "store", shard=shard, folder=tmp_path / shard[0])
        for item in session.work(rows):
            with item:
                item.save(x=[1])
        session.close()
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert [(s.shard, s.left) for s in row.shards] == [("1/3", 0), ("2/3", 0), ("3/3", None)]
    assert sum(shard.done for shard in row.shards) == row.done < 40
    assert row.left is None and row.state == "work left", "a part that nobody closed is not done"
    assert "shard: toy 3/3: 0 done, ? left, 0 failed" in words([row])
    session = nbkit.open_session("toy", store=tmp_path / "store", shard="3/3", folder=tmp_path / "3")
    for item in session.work(rows):
        with item:
            item.save(x=[1])
    session.close()
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert (row.done, row.left, row.state) == (40, 0, "complete")


def test_a_second_look_reads_only_what_is_new(tmp_path, store):
    write_segment(store, "one", {"e": "open", "t": 1.0}, done("a", 1.0))
    fetched: list[str] = []

    class Counting(FolderStore):
        def get(self, name, path, sha256=None):
            fetched.append(name)
            return super().get(name, path, sha256)

    counting = Counting(tmp_path / "store")
    assert read_status(counting, ["toy"], tmp_path / "cache")[0].done == 1
    write_segment(store, "two", {"e": "open", "t": 2.0}, done("b", 1.0))
    assert read_status(counting, ["toy"], tmp_path / "cache")[0].done == 2
    assert sum("/ledger/one/" in name for name in fetched) == 1


def test_what_all_takes_together_names_what_it_does_not_count(tmp_path, store):
    now = time.time()
    write_receipt(store, 100, now - 3600.0)
    write_receipt(store, 200, now)
    known = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    unknown = replace(known, slug="other", hours_left=None, sessions_left=None, quota_weeks=None)
    said = words([known, unknown])
    assert "together: 8 h, 1 session, 0.3 quota-weeks of 30 GPU hours; not counted, no rate known: other" in said


@pytest.mark.parametrize("content", ["{", "[]", "\xff", '{"sessions": 3}', '{"sessions": [3, {"session": []}]}'])
def test_a_damaged_rehearsal_does_not_keep_the_status_away(tmp_path, store, content):
    write_segment(store, "one", {"e": "open", "t": 1.0}, done("a", 1.0))
    Path(store.path("toy/rehearsal.json")).write_bytes(content.encode("latin-1"))
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert row.done == 1 and bool(row.notes) == (not content.startswith('{"s'))


DAY = 86400.0


@pytest.mark.parametrize("off", [400 * DAY, -400 * DAY, 0.0, 3600.0])
@pytest.mark.parametrize("did", [0, 2])
def test_what_is_left_does_not_hang_on_the_clock_of_one_session(tmp_path, store, off, did):
    """Three items were done and complete by a wrong clock; then the list grew to ten, and `did` more were done."""
    now = time.time() - 5000.0
    first = {"e": "close", "t": now + off + 10, "done": 3, "left": 0, "of": 3, "complete": True, "reason": "complete"}
    write_segment(store, "one", {"e": "open", "t": now + off, "done": 0}, *(done(key, 1.0) for key in "abc"), first)
    later = {"e": "close", "t": now + 4000.0, "done": 3 + did, "left": 7 - did, "of": 10, "reason": "left"}
    opened = {"e": "open", "t": now + 3900.0, "done": 3}
    write_segment(store, "two", opened, *(done(key, 1.0) for key in "de"[:did]), later)
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert (row.done, row.left, row.state) == (3 + did, 7 - did, "work left")


@pytest.mark.parametrize("jump", [400 * DAY, 3 * DAY, -400 * DAY, -3 * DAY])
@pytest.mark.parametrize("place", [1, 2])
def test_a_clock_that_is_set_between_two_saves_says_nothing_of_the_pace(tmp_path, store, jump, place):
    for number, step in enumerate((10, 20, 30)):
        write_receipt(store, step, 1.7e9 + 60.0 * number + (jump if number >= place else 0.0))
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert row.rate == pytest.approx(600.0) and row.hours_left == pytest.approx(970 / 600)


@pytest.mark.parametrize("known", [{"limit": 3600.0}, {}])
def test_two_saves_further_apart_than_the_session_was_long_leave_the_pace_unknown(tmp_path, store, known):
    lasted = {} if known else {"lasted": 500.0}
    write_segment(store, "s", {"e": "open", "t": 1.7e9, **known}, {"e": "close", "t": 1.7e9 + 500, **lasted})
    for number, step in enumerate((10, 20)):
        write_receipt(store, step, 1.7e9 + 20 * DAY * number)
    row = read_phase(store, "toy", TRAINING, tmp_path / "cache")
    assert row.rate is None and row.hours_left is None and row.sessions_left is None
