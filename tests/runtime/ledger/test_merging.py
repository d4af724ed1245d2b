"""Merged segments: the state stays the plain sum of all records, whoever merges when, whatever kills or damages it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.runtime.ledger import merging
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.merging import merge_finished
from nbkit.runtime.ledger.segments import (
    MERGED,
    LedgerState,
    Segment,
    encode_line,
    read_segment,
    read_state,
    segment_of,
)
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.past_sessions import CountedState
from tests.runtime.children import die, fork, reap
from tests.runtime.ledger.test_segments import RECORD
from tests.runtime.store.faulty_store import FaultyStore, on, passing, permanent

OLD = ["20200101T000000-aaaaaaaa", "20200102T000000-bbbbbbbb", "20200103T000000-cccccccc"]


def now(name: str) -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{name * 8}"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(merging, "ENOUGH", 1)


def state(fold: CountedState) -> object:
    """Return all that a fold says of items and sessions, with what has no meaning (the order of outputs) taken out."""
    done = {key: sorted({json.dumps(output) for output in outputs}) for key, outputs in fold.done.items()}
    tallies = {name: tally for name, tally in fold.tallies.items() if name != MERGED}
    facts = fold.failures, fold.errors, fold.deaths, fold.settings, fold.made_with, fold.sessions
    return done, tallies, fold.failed_at, *facts


def put(store: FolderStore, segment: Segment, data: bytes) -> None:
    path = store.path(segment.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read(store, cache: Path) -> CountedState:
    return read_state(store, "p", cache, CountedState())


def segments_of(session: str, records: list[dict], cuts: list[int] = ()) -> list[tuple[Segment, bytes]]:
    ends = sorted({0, len(records), *(cut for cut in cuts if 0 < cut < len(records))})
    lines = [encode_line(record) for record in records]
    return [segment_of("p", session, a + 1, lines[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def plainly(pieces: list[tuple[Segment, bytes]]) -> CountedState:
    """Return the state by taking in every session's own segments, and nothing else."""
    fold = CountedState()
    for segment, data in pieces:
        fold.add_segment(segment, data)
    return fold


class Merger:
    """A session that looks at the store at one moment and merges at a later one."""

    def __init__(self, store: FolderStore, cache: Path) -> None:
        self.store, self.state = store, read(store, cache)
        self.found = merge_finished("p", cache, self.state)

    def merge(self) -> None:
        if self.found is not None:
            put(self.store, *self.found)
            self.state.add_segment(*self.found)
            for segment in self.state.listed:
                if segment.name in self.state.replaced:
                    self.store.delete(segment.name)


def as_before_merging(store: FolderStore) -> CountedState:
    """Return what a version of nbkit reads that knows nothing of merged segments."""
    fold = CountedState()
    for stat in store.list("p/ledger/"):
        segment = Segment.parse(stat.name)
        fold.add(f"{segment.session}{segment.late}", read_segment(segment, store.path(stat.name).read_bytes()))
    return fold


HISTORY = st.tuples(st.booleans(), st.lists(RECORD, min_size=1, max_size=6), st.booleans())


def told(history: tuple[bool, list[dict], bool], place: int) -> list[dict]:
    """Return a session's records as the ledger writes them, perhaps without its opening or closing one."""
    begun, records, ended = history
    records = [{"e": "open", "t": float(place)}] * begun + records + [{"e": "close", "t": place + 0.9}] * ended
    # no two failures at the same time: which of them was the last would be a matter of chance
    return [r | {"t": place + n / 100} if r["e"] == "failed" else r for n, r in enumerate(records)]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_state_is_the_plain_sum_for_any_history_and_any_moments_of_merging(data):
    root = Path(tempfile.mkdtemp(prefix="nbkit-merging-"))
    store, waiting, pieces = FolderStore(root / "store"), [], []
    queues = []
    for session in [*OLD, now("d"), now("e"), "unnamed"]:
        records = told(data.draw(HISTORY), len(queues))
        queues.append(segments_of(session, records, data.draw(st.lists(st.integers(1, 8), max_size=3))))
    moments = data.draw(st.permutations([*(i for i, queue in enumerate(queues) for _ in queue), *("lm" * 3)]))
    for count, what in enumerate(moments):
        if what == "l":
            waiting.append(Merger(store, root / f"cache-{count}"))
        elif what == "m":
            if waiting:
                waiting.pop(data.draw(st.integers(0, len(waiting) - 1))).merge()
        else:
            pieces.append(queues[what].pop(0))
            put(store, *pieces[-1])
        if what == "m":
            assert state(read(store, root / "check")) == state(plainly(pieces))
    for merger in waiting:
        merger.merge()
    Merger(store, root / "last").merge()
    found = read(store, root / "fresh")
    assert state(found) == state(plainly(pieces)) and not found.damaged
    earlier, plain = as_before_merging(store), plainly(pieces)
    assert state(earlier)[0] == state(plain)[0] and earlier.made_with == plain.made_with
    assert (earlier.failures, earlier.deaths, earlier.settings) == (plain.failures, plain.deaths, plain.settings)
    shutil.rmtree(root)


def history(i: int) -> list[dict]:
    """Return the records of one session that did, failed and died at something, and perhaps closed."""
    records = [{"e": "open", "t": 1.0 + i, "host": "local", "step": i}]
    records += [{"e": "done", "k": f"k{i}", "o": [[f"p/items/k{i}.npz", i, "a" * 64]], "s": 0.5}]
    records += [{"e": "failed", "k": "f", "err": f"error {i}", "t": 2.0 + i}, {"e": "died", "k": "d", "t": 3.0}]
    return records + ([{"e": "close", "t": 9.0 + i, "reason": "wall"}] if i % 2 else [])


def recorded(root: Path, sessions: range) -> list[tuple[Segment, bytes]]:
    """Write sessions, closed recently or killed long ago, into a store, and return their segments."""
    store, pieces = FolderStore(root / "store"), []
    for i in sessions:
        session = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{i:08x}" if i % 2 else f"20200101T{i:06d}-{i:08x}"
        lines = [encode_line(record) for record in history(i)]
        pieces.append(segment_of("p", session, 1, lines))
        put(store, *pieces[-1])
    return pieces


def names(root: Path, part: str = "merged/") -> list[str]:
    return [stat.name for stat in FolderStore(root / "store").list(f"p/ledger/{part}")]


def test_opening_merges_what_finished_sessions_left_and_the_next_reads_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "ENOUGH", 8)
    pieces = recorded(tmp_path, range(7))
    Ledger(tmp_path / "few", "p", now("0"), FolderStore(tmp_path / "store")).release()
    assert not names(tmp_path), "seven are not worth it"
    pieces += recorded(tmp_path, range(7, 30))
    Ledger(tmp_path / "many", "p", now("1"), FolderStore(tmp_path / "store")).release()
    assert len(names(tmp_path)) == 1
    store = FaultyStore(FolderStore(tmp_path / "store"))
    assert state(read(store, tmp_path / "next")) == state(plainly(pieces))
    assert store.calls["get"] == 1
    pieces += recorded(tmp_path, range(30, 39))
    Ledger(tmp_path / "later", "p", now("2"), FolderStore(tmp_path / "store")).release()
    assert len(names(tmp_path)) == 1, "the larger one has replaced the smaller"
    store = FaultyStore(FolderStore(tmp_path / "store"))
    assert state(read(store, tmp_path / "last")) == state(plainly(pieces))
    assert store.calls["get"] == 1 and len(names(tmp_path, "2")) == 39, "the sessions' own segments stay"


def test_of_sessions_that_may_be_alive_records_are_copied_and_later_ones_still_read(tmp_path):
    store, alive, unnamed = FolderStore(tmp_path / "store"), *(segments_of(s, history(2), [2]) for s in (now("a"), "x"))
    closed = segments_of(now("b"), history(1), [2])
    for piece in (alive[0], unnamed[0], closed[1]):
        put(store, *piece)
    merger = Merger(store, tmp_path / "cache")
    merger.merge()
    assert merger.found is not None and not merger.state.sealed, "of none of them all records are known"
    counting = FaultyStore(store)
    assert state(read(counting, tmp_path / "next")) == state(plainly([alive[0], unnamed[0], closed[1]]))
    assert counting.calls["get"] == 1
    for piece in (alive[1], unnamed[1], closed[0]):
        put(store, *piece)
    counting = FaultyStore(store)
    assert state(read(counting, tmp_path / "later")) == state(plainly([*alive, *unnamed, *closed]))
    assert counting.calls["get"] == 4
    merger = Merger(store, tmp_path / "last")
    merger.merge()
    assert merger.state.sealed == {closed[0][0].folder}, "though not all of its segments were fetched"


class Deadly(FolderStore):
    """A store whose n-th call is the process's last, before or after it took effect."""

    def __init__(self, root: Path, n: int, after: bool) -> None:
        super().__init__(root)
        self.left, self.after, self.counting = n, after, threading.Lock()

    def put(self, path, name):
        return self._strike(lambda: FolderStore.put(self, path, name))

    def get(self, name, path, sha256=None):
        return self._strike(lambda: FolderStore.get(self, name, path, sha256))

    def list(self, prefix=""):
        return self._strike(lambda: iter(list(FolderStore.list(self, prefix))))

    def delete(self, name):
        return self._strike(lambda: FolderStore.delete(self, name))

    def _strike(self, call):
        with self.counting:
            self.left -= 1
            last = self.left == 0
        if last and not self.after:
            die()
        found = call()
        if last:
            die()
        return found


@pytest.mark.parametrize("after", [False, True])
def test_kill_at_every_store_call_of_an_opening_that_merges(tmp_path, after):
    """The store holds 6 merged sessions and 6 new ones, so that a merged segment is written and another deleted."""
    pieces = recorded(tmp_path, range(6))
    Merger(FolderStore(tmp_path / "store"), tmp_path / "first").merge()
    pieces += recorded(tmp_path, range(6, 12))
    plain, n, ended = state(plainly(pieces)), 0, None
    while ended != 0:
        n += 1
        root = tmp_path / str(n)
        shutil.copytree(tmp_path / "store", root / "store")
        session, store = now("f"), Deadly(root / "store", n, after)
        work = lambda: Ledger(root / "work", "p", session, store).release()  # noqa: E731, B023
        ended = reap(fork(work, root / "log"))
        assert ended in (0, -signal.SIGKILL), (root / "log").read_text()
        found = read(FolderStore(root / "store"), root / "after the kill")
        assert state(found) == plain and not found.damaged, n
        shutil.rmtree(root / "work", ignore_errors=True)  # the machine is wiped
        Ledger(root / "work", "p", now("g"), FolderStore(root / "store")).release()
        found = read(FolderStore(root / "store"), root / "after the next session")
        assert state(found) == plain and not found.damaged, n
    assert n > 11, "six segments, the merged one, two listings, a put and a delete"


def test_sessions_that_merge_at_the_same_time_do_no_harm(tmp_path):
    pieces = recorded(tmp_path, range(20))

    def work(i: int) -> None:
        for turn in range(5):
            Ledger(tmp_path / f"work-{i}-{turn}", "p", now(str(i)), FolderStore(tmp_path / "store")).release()

    children = [fork(lambda i=i: work(i), tmp_path / f"log-{i}") for i in range(3)]
    for i in range(20, 40):
        pieces += recorded(tmp_path, range(i, i + 1))
        time.sleep(0.01)
    assert [reap(child) for child in children] == [0, 0, 0], [(tmp_path / f"log-{i}").read_text() for i in range(3)]
    assert state(read(FolderStore(tmp_path / "store"), tmp_path / "cache")) == state(plainly(pieces))


def test_damaged_merged_segment_is_named_and_costs_nothing(tmp_path):
    pieces = recorded(tmp_path, range(6))
    store = FolderStore(tmp_path / "store")
    Merger(store, tmp_path / "first").merge()
    (name,) = names(tmp_path)
    data, plain = store.path(name).read_bytes(), state(plainly(pieces))
    for position in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        for content in (bytes(flipped), data[:position]):
            store.path(name).write_bytes(content)
            found = read(store, tmp_path / f"cache-{position}-{len(content)}")
            assert state(found) == plain and list(found.damaged) == [name], position
            shutil.rmtree(tmp_path / f"cache-{position}-{len(content)}")
    store.path(name).write_bytes(data[:-9])
    Ledger(tmp_path / "work", "p", now("a"), store).release()
    assert state(read(store, tmp_path / "after")) == plain


def test_damaged_session_is_left_as_it_is(tmp_path):
    pieces = recorded(tmp_path, range(4))
    store, segment = FolderStore(tmp_path / "store"), pieces[1][0]
    store.path(segment.name).write_bytes(pieces[1][1][:-9])
    Merger(store, tmp_path / "cache").merge()
    found = read(store, tmp_path / "after")
    assert list(found.damaged) == [segment.name] and segment.folder not in found.sealed and len(found.sealed) == 1
    store.path(segment.name).write_bytes(pieces[1][1])
    assert state(read(store, tmp_path / "mended")) == state(plainly(pieces))


@pytest.mark.parametrize("fault", [passing, permanent])
@pytest.mark.parametrize("verb", ["put", "delete"])
def test_store_that_refuses_the_merge_is_no_reason_not_to_open(tmp_path, verb, fault):
    pieces = recorded(tmp_path, range(4))
    Merger(FolderStore(tmp_path / "store"), tmp_path / "first").merge()
    pieces += recorded(tmp_path, range(4, 8))
    ledger = Ledger(tmp_path / "work", "p", now("a"), FaultyStore(FolderStore(tmp_path / "store"), on(verb, fault)))
    assert len(ledger.notes) == 1 and "not merged" in ledger.notes[0]
    ledger.release()
    assert state(read(FolderStore(tmp_path / "store"), tmp_path / "after")) == state(plainly(pieces))


@pytest.mark.parametrize("by_age", [False, True], ids=["now", "as earlier versions did"])
@pytest.mark.parametrize("begun", [OLD[0], now("a"), "20990101T000000-aaaaaaaa"], ids=["past", "present", "future"])
def test_a_session_that_lives_is_read_whatever_the_clocks_say(tmp_path, monkeypatch, begun, by_age):
    """Others copy its records at once; on machines whose clocks are years off it looks long finished, or not begun."""
    store, lines = FolderStore(tmp_path / "store"), [encode_line(record) for record in history(1)]
    for count in range(1, len(lines) + 1):
        put(store, *segment_of("p", begun, count, lines[count - 1 : count]))
        with monkeypatch.context() as patch:
            if by_age:
                patch.setattr(LedgerState, "is_finished", lambda state, segment: True)
            Merger(store, tmp_path / f"merger {count}").merge()
        found = read(store, tmp_path / f"cache {count}")
        assert state(found) == state(plainly([segment_of("p", begun, 1, lines[:count])]))
        assert found.sealed == ({f"p/ledger/{begun}"} if count == len(lines) else set())


def test_parts_of_a_session_in_several_merged_segments_make_it_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "_SMALL", 0)
    monkeypatch.setattr(merging, "_LARGEST", 1200)
    store, name = FolderStore(tmp_path / "store"), now("a")
    pieces = segments_of(name, history(1), [1, 2, 3, 4])
    for turn, piece in enumerate(pieces):
        put(store, *piece)
        Merger(store, tmp_path / f"cache {turn}").merge()
    assert read(store, tmp_path / "after").sealed == {f"p/ledger/{name}"}


def test_records_in_the_late_folders_of_earlier_versions_are_read(tmp_path):
    store, lines = FolderStore(tmp_path / "store"), [encode_line(record) for record in history(1)]
    pieces = [segment_of("p", OLD[0], 1, lines[:2]), segment_of("p", OLD[0], 3, lines[2:])]
    pieces[1] = replace(pieces[1][0], late=True), pieces[1][1]
    for piece in pieces:
        put(store, *piece)
    Merger(store, tmp_path / "cache").merge()
    counting = FaultyStore(store)
    found = read(counting, tmp_path / "after")
    assert state(found) == state(plainly(pieces)) and counting.calls["get"] == 1
    assert found.sealed == {f"p/ledger/{OLD[0]}", f"p/ledger/{OLD[0]}~late"}


def test_large_merged_segments_are_not_copied_at_every_merge(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "_SMALL", 0)
    pieces, written = [], 0
    for i in range(0, 60, 2):
        pieces += recorded(tmp_path, range(i, i + 2))
        merger = Merger(FolderStore(tmp_path / "store"), tmp_path / f"cache-{i}")
        written += len(merger.found[1])
        merger.merge()
    assert written < 6 * sum(len(data) for _, data in pieces) and len(names(tmp_path)) <= 6
    assert state(read(FolderStore(tmp_path / "store"), tmp_path / "cache")) == state(plainly(pieces))


def test_names_of_late_and_merged_segments_come_back():
    segment = replace(segment_of("p", OLD[0], 1, ["x"])[0], late=True)
    assert Segment.parse(segment.name) == segment
    assert Segment.parse(segment.name.replace("~late", "~other")) is None


def test_sessions_whose_transfer_costs_more_than_their_request_are_left(tmp_path, monkeypatch):
    pieces = recorded(tmp_path, range(6))
    records = [{"e": "failed", "k": "f", "err": "x" * 3000, "t": 1.0}, {"e": "close", "t": 9.0, "reason": "wall"}]
    large = segments_of(OLD[1], records)
    put(FolderStore(tmp_path / "store"), *large[0])
    monkeypatch.setattr(merging, "_LARGE", 2000)
    Merger(FolderStore(tmp_path / "store"), tmp_path / "cache").merge()
    found = read(FolderStore(tmp_path / "store"), tmp_path / "after")
    assert state(found) == state(plainly(pieces + large))
    assert large[0][0].folder not in found.sealed and len(found.sealed) == 3
