"""Names of segments: what no session wrote is named and passed over, whatever its numbers and its length."""

from __future__ import annotations

import builtins
import errno
import io
import os

import pytest

import nbkit
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.segments import MERGED, encode_line, read_state
from nbkit.runtime.ledger.stored.segment import Segment, listed, segment_of
from nbkit.tools.report.page import write_report
from nbkit.tools.status.status import read_status
from nbkit.tools.status.verify import verify_store
from tests.runtime.ledger.odd_records import healthy

SLUGS = ("p", "labram_codebook", "p" * 64)
OPENED = encode_line({"e": "open", "t": 1.7e9, "host": "local"})
NAMES = {
    "number 0": "p/ledger/s/000000000-000000001-{crc}.jsonl",
    "numbers above all": f"p/ledger/s/{2**61}-{2**61}-{{crc}}.jsonl",
    "the last above all": f"p/ledger/s/000000001-{2**60 + 1}-{{crc}}.jsonl",
    "numbers of 29 digits": f"p/ledger/s/{10**28}-{10**28}-{{crc}}.jsonl",
    "ends before it begins": "p/ledger/s/000000005-000000004-{crc}.jsonl",
    "zeros before": f"p/ledger/s/{1:030d}-{1:030d}-{{crc}}.jsonl",
    "short numbers": "p/ledger/s/1-1-{crc}.jsonl",
    "a merged one from 0": f"p/ledger/{MERGED}/000000000-000000000-{{crc}}.jsonl",
    "a session that ends in a dot": "p/ledger/s./000000001-000000001-{crc}.jsonl",
    "a folder of 205 characters": f"p/ledger/{'s' * 200}~late/000000001-000000001-{{crc}}.jsonl",
}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def readers(store, folder, slug="p"):
    """Open a session three times and look at the store; return what the openings said."""
    assert read_status(str(store.root), [slug])[0].sessions >= 1
    verify_store(str(store.root))
    write_report(str(store.root), folder / "page.html", [slug])
    for number in range(3):
        nbkit.open_session(slug, store=store.root, folder=folder / f"work{number}").close()


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_no_session_wrote_is_named_and_read_by_nobody(tmp_path, what, capsys):
    store = healthy(tmp_path / "store")
    data = (OPENED + "\n").encode()
    name = NAMES[what].format(crc=segment_of("p", "s", 1, [OPENED])[0].crc)
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    assert Segment.parse(name) is None
    state = read_state(store, "p", tmp_path / "cache")
    assert list(state.damaged) == [name] and state.damaged[name].startswith("skipped: ")
    assert len(state.damaged[name]) < 400 and state.damaged[name].isprintable()
    assert "good" in state.done and "s" not in state.sessions
    readers(store, tmp_path)
    assert capsys.readouterr().out.count(f"Segment {name}: ") == 3, "each opening names it once"


@pytest.mark.parametrize("first", [0, 2**61])
def test_no_merge_is_made_of_records_whose_numbers_cannot_be(tmp_path, first, capsys):
    store = healthy(tmp_path / "store")
    for number in range(5):
        segment, data = segment_of("p", f"2026-{number:04d}", first, [OPENED])
        (store.root / segment.name).parent.mkdir(parents=True)
        (store.root / segment.name).write_bytes(data)
    for number in range(6):
        capsys.readouterr()
        nbkit.open_session("p", store=store.root, folder=tmp_path / f"work{number}").close()
        assert capsys.readouterr().out.count("skipped") == 5
    assert len(list(store.list(f"p/ledger/{MERGED}/"))) <= 1


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("length", [170, 200])
def test_a_long_name_of_a_session_is_read_by_everybody(tmp_path, slug, length):
    store = healthy(tmp_path / "store")
    (store.root / "p").rename(store.root / slug)
    segment, data = segment_of(slug, "s" * length, 1, [OPENED])
    assert len(segment.cached) <= 200
    path = store.path(segment.name)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert [s.session for s in listed(store, f"{slug}/ledger/s")[0]] == ["s" * length]
    state = read_state(store, slug, tmp_path / "cache")
    assert "s" * length in state.sessions and segment.name not in state.damaged
    readers(store, tmp_path, slug)


def failing(monkeypatch, part: str, mode: str, number: int) -> None:
    """Let every opening of a file fail whose path holds a part, for reading or for writing."""
    opened = io.open

    def fake(file, how="r", *args, **more):
        if isinstance(file, str | os.PathLike) and part in os.fspath(file) and mode in how and "ledger" in str(file):
            raise OSError(number, os.strerror(number), os.fspath(file))
        return opened(file, how, *args, **more)

    monkeypatch.setattr(io, "open", fake)
    monkeypatch.setattr(builtins, "open", fake)


FAULTS = {
    "a segment that cannot be read": ("store/p/ledger", "r", errno.EIO, "Input/output error"),
    "no right to read a segment": ("store/p/ledger", "r", errno.EACCES, "Permission denied"),
    "a full disk under the copies": (",ledger,", "w", errno.ENOSPC, "is full"),
    "a disk under the copies that can only be read": (",ledger,", "w", errno.EROFS, "can only be read"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_of_a_disk_under_the_segments_is_told_in_words(tmp_path, what, monkeypatch):
    store = healthy(tmp_path / "store")
    monkeypatch.setattr("nbkit.runtime.store.retried._FIRST_WAIT", 0.0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    *fault, words = FAULTS[what]
    failing(monkeypatch, *fault)
    for call in (
        lambda: nbkit.open_session("p", store=store.root, folder=tmp_path / "work"),
        lambda: read_status(str(store.root), ["p"]),
        lambda: verify_store(str(store.root)),
    ):
        with pytest.raises(NbkitError, match=words):
            call()
    assert any(words in note for note in write_report(str(store.root), tmp_path / "page.html", ["p"]).notes)
