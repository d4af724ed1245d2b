"""The fold of all records: order, repetition, clocks and damage do not change what it says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.runtime.ledger.segments import (
    LedgerState,
    Segment,
    decode_line,
    encode_line,
    is_whole,
    read_segment,
    read_state,
    segment_of,
)
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.store.faulty_store import FaultyStore, LaggingStore

KEYS = st.sampled_from(["a", "b", "sub/c", "é"])
OUTPUT = st.tuples(st.sampled_from(["p/x", "p/y"]), st.integers(0, 9), st.sampled_from(["aa", "bb"])).map(list)
RECORD = st.one_of(
    st.builds(lambda k, o: {"e": "done", "k": k, "o": o}, KEYS, st.lists(OUTPUT, max_size=2, unique_by=str)),
    st.builds(lambda k, o: {"e": "done", "k": k, "o": o, "v": "0123456789ab"}, KEYS, st.lists(OUTPUT, max_size=1)),
    st.builds(lambda k, t: {"e": "failed", "k": k, "err": t}, KEYS, st.text(max_size=8)),
    st.builds(lambda k, t: {"e": "died", "k": k, "t": t}, KEYS, st.floats(0, 1e9)),
    st.builds(lambda s: {"e": "settings", "settings": s}, st.dictionaries(st.sampled_from("xy"), st.integers(0, 2))),
)
SESSIONS = st.dictionaries(st.sampled_from(["s1", "s2", "s3"]), st.lists(RECORD, min_size=1, max_size=12), max_size=3)


def state(fold: LedgerState) -> object:
    """Return what a fold says, with the order of outputs, which means nothing, taken out."""
    done = {key: sorted(map(json.dumps, outputs)) for key, outputs in fold.done.items()}
    return done, fold.failures, fold.errors, fold.deaths, fold.settings, fold.made_with


def oracle(sessions: dict[str, list[dict]]) -> object:
    """Say by plain counting what the records add up to."""
    records = [record for records in sessions.values() for record in records]
    done: dict[str, set[str]] = {}
    failures: dict[str, list[str]] = {}
    deaths: dict[str, int] = {}
    for record in records:
        if record["e"] == "done":
            done.setdefault(record["k"], set()).update(map(json.dumps, record["o"]))
        elif record["e"] == "failed":
            failures.setdefault(record["k"], []).append(record["err"])
        elif record["e"] == "died":
            deaths[record["k"]] = deaths.get(record["k"], 0) + 1
    return (
        {key: sorted(outputs) for key, outputs in done.items()},
        {key: len(errors) for key, errors in failures.items()},
        {key: max(errors) for key, errors in failures.items()},
        deaths,
    )


def unique(fold_state: tuple) -> tuple:
    return ({key: sorted(set(outputs)) for key, outputs in fold_state[0].items()}, *fold_state[1:4])


@given(SESSIONS, st.randoms(use_true_random=False), st.data())
@settings(max_examples=120, deadline=None)
def test_any_order_repetition_and_overlap_of_segments_gives_the_same_state(sessions, rng, data):
    pieces = []
    for session, records in sessions.items():
        lines = [encode_line(record) for record in records]
        cuts = sorted({0, len(lines), *data.draw(st.lists(st.integers(0, len(lines)), max_size=4))})
        ranges = list(zip(cuts, cuts[1:], strict=False))
        for _ in range(data.draw(st.integers(0, 3))):  # merges: larger segments that overlap the parts
            first = data.draw(st.integers(0, len(lines) - 1))
            ranges.append((first, data.draw(st.integers(first + 1, len(lines)))))
        ranges += data.draw(st.lists(st.sampled_from(ranges), max_size=2))
        pieces += [segment_of("p", session, first + 1, lines[first:last]) for first, last in ranges]
    states = []
    for _ in range(3):
        rng.shuffle(pieces)
        fold = LedgerState()
        for segment, content in pieces:
            fold.add_segment(segment, content)
        assert not fold.damaged
        states.append(state(fold))
    assert states[0] == states[1] == states[2]
    assert unique(states[0]) == oracle(sessions)


@given(RECORD | st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), min_size=1, max_size=4))
def test_a_line_is_one_line_and_comes_back(record):
    line = encode_line(record)
    assert len(line.splitlines()) == 1 and line.isascii() and is_whole(line)
    assert decode_line(line) == record


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\x0bb\x1c", "\udcff", '","c":"00000000"}', "\x00", "😀\n"])
def test_messages_of_any_characters_survive(text):
    record = {"e": "failed", "k": "a", "err": text}
    segment, data = segment_of("p", "s", 1, [encode_line(record), encode_line({"e": "done", "k": "b", "o": []})])
    assert [r["err"] for _, r in read_segment(segment, data) if "err" in r] == [text]
    hurt = data[:-3]
    assert [r["err"] for _, r in read_segment(segment, hurt) if "err" in r] == [text]


def some_records(n: int = 12) -> list[dict]:
    rng = random.Random(n)
    kinds = ("done", "failed", "died")
    return [{"e": kinds[i % 3], "k": f"k{rng.randrange(5)}", "o": [["p/é", i, "h"]], "err": "x\ny"} for i in range(n)]


def test_segment_truncated_at_every_byte_length_loses_only_what_is_gone():
    records = some_records()
    segment, data = segment_of("p", "s", 7, [encode_line(record) for record in records])
    ends = [i for i, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        whole = sum(end <= length for end in ends)
        assert list(read_segment(segment, data[:length])) == list(enumerate(records[:whole], 7)), length
        fold = LedgerState()
        fold.add_segment(segment, data[:length])
        assert fold.damaged == {segment.name: f"damaged: {whole} of 12 records could be read"}
        fold.add_segment(segment, data)  # a whole copy mends it, and nothing counts twice
        again = LedgerState()
        again.add_segment(segment, data)
        assert state(fold) == state(again), length


def test_flipped_bits_never_make_a_wrong_record():
    records = some_records()
    segment, data = segment_of("p", "s", 7, [encode_line(record) for record in records])
    true = {7 + i: record for i, record in enumerate(records)}
    whole = LedgerState()
    whole.add_segment(segment, data)
    for position in range(len(data)):
        for bit in (1 << (position % 8), 0xFF & (data[position] ^ ord("\n"))):  # the second makes or is a line end
            if not bit:
                bit = 1
            hurt = bytearray(data)
            hurt[position] ^= bit
            found = list(read_segment(segment, bytes(hurt)))
            assert len(found) >= len(records) - 2
            assert all(record in records and number in (None, *true) for number, record in found)
            assert all(number is None or true[number] == record for number, record in found), position
            fold = LedgerState()
            fold.add_segment(segment, bytes(hurt))
            assert segment.name in fold.damaged
            fold.add_segment(segment, data)
            assert state(fold) == state(whole), position


def test_hurt_segment_with_its_parts_beside_it_loses_nothing(tmp_path):
    """A kill between a merge and the deletion of the parts, then damage to the merged one."""
    records = some_records(30)
    lines = [encode_line(record) for record in records]
    parts = [segment_of("p", "s", first + 1, lines[first : first + 10]) for first in (0, 10, 20)]
    merged, data = segment_of("p", "s", 1, lines)
    whole = LedgerState()
    whole.add_segment(merged, data)
    for position in range(0, len(data), 17):
        hurt = bytearray(data)
        hurt[position] ^= 0xFF & (data[position] ^ ord("\n")) or 4
        store = FolderStore(tmp_path / str(position))
        for segment, content in [*parts, (merged, bytes(hurt))]:
            path = store.path(segment.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fold = read_state(store, "p", tmp_path / f"cache-{position}")
        assert state(fold) == state(whole), position


def test_names_tell_segments_from_other_files():
    segment, _ = segment_of("eeg", "20250101T000000-abcdef12", 1, ["x"] * 5)
    assert Segment.parse(segment.name) == segment and (segment.first, segment.last) == (1, 5)
    for name in ("eeg/items/a.npz", "eeg/ledger/s/x.jsonl", segment.name + "x", segment.name[:-1], "", "eeg/ledger/s"):
        assert Segment.parse(name) is None


def store_of(folder: Path, segments: list) -> FolderStore:
    store = FolderStore(folder)
    for segment, data in segments:
        (folder / "put").parent.mkdir(exist_ok=True)
        (folder / "put").write_bytes(data)
        store.put(folder / "put", segment.name)
    return store


def lines_of(session: str, n: int) -> list[str]:
    return [encode_line({"e": "done", "k": f"{session}-{i}", "o": []}) for i in range(n)]


def test_a_hurt_copy_in_the_cache_is_fetched_again(tmp_path):
    segment, data = segment_of("p", "s", 1, lines_of("s", 20))
    store = store_of(tmp_path / "store", [(segment, data)])
    cached = tmp_path / "cache" / segment.cached
    cached.parent.mkdir(parents=True)
    cached.write_bytes(data[:50])
    assert len(read_state(store, "p", tmp_path / "cache").done) == 20
    assert cached.read_bytes() == data


def test_folding_on_reads_only_what_is_new(tmp_path):
    store = FaultyStore(store_of(tmp_path / "store", [segment_of("p", "s", 1, lines_of("s", 5))]))
    fold = read_state(store, "p", tmp_path / "cache")
    assert store.calls["get"] == 1
    store_of(tmp_path / "store", [segment_of("p", "t", 1, lines_of("t", 5))])
    read_state(store, "p", tmp_path / "cache", fold)
    assert store.calls["get"] == 2 and len(fold.done) == 10


def test_segments_merged_while_a_session_opens_are_not_missed(tmp_path):
    lines = lines_of("s", 8)
    parts = [segment_of("p", "s", 1, lines[:4]), segment_of("p", "s", 5, lines[4:])]
    merged = segment_of("p", "s", 1, lines)
    inner = store_of(tmp_path / "store", parts)

    def merge(verb: str, name: str, call: int) -> None:
        if verb == "get" and call == 1:
            store_of(tmp_path / "store", [merged])
            for segment, _ in parts:
                inner.delete(segment.name)

    assert len(read_state(FaultyStore(inner, merge), "p", tmp_path / "cache").done) == 8


def test_listing_that_lags_behind_a_merge_by_less_than_the_patience_misses_nothing(tmp_path):
    lines = lines_of("s", 8)
    store = LaggingStore(tmp_path / "store", lag=0.4)
    store_of(tmp_path / "store", [segment_of("p", "s", 1, lines)])
    with open(tmp_path / "store" / ".deleted", "w") as log:
        import time

        for segment, data in (segment_of("p", "s", 1, lines[:4]), segment_of("p", "s", 5, lines[4:])):
            log.write(json.dumps([time.time(), segment.name, len(data)]) + "\n")
    assert len(read_state(store, "p", tmp_path / "cache").done) == 8


def test_foreign_files_among_the_segments_are_passed_over(tmp_path):
    store = store_of(tmp_path / "store", [segment_of("p", "s", 1, lines_of("s", 3))])
    (tmp_path / "store" / "p" / "ledger" / "desktop.ini").write_text("x")
    (tmp_path / "store" / "p" / "ledger" / "s" / "notes.txt").write_text("x")
    assert len(read_state(store, "p", tmp_path / "cache").done) == 3
