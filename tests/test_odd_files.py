"""Files that hold anything: each reader gives what fits, names what does not, or says in words that it cannot go on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.ground.files import read_json
from nbkit.runtime.errors import DamagedError, NbkitError, UsageError
from nbkit.runtime.items.fetching import fetch_history
from nbkit.runtime.journal import append_event, of_kind, read_journal
from nbkit.runtime.ledger.manifest import read_manifest
from nbkit.runtime.ledger.receipts import FORMAT, Receipt, read_receipt
from nbkit.runtime.results.results import Results
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.newest import fetch_receipt
from nbkit.tools.kaggle.pull import log_text
from nbkit.tools.kaggle.runs import Push, read_pushes, record_push
from nbkit.tools.notebooks import read_notebook
from nbkit.tools.phases import load_phases
from nbkit.tools.rehearsal.accounts import RehearsedSession, account
from nbkit.tools.rehearsal.live_line import doing
from nbkit.tools.status.status import read_status
from tests.runtime.ledger.odd_records import DEEP, VALUES

RECEIPT = Receipt("p", 10, 1, 4, 7, "ab" * 32, metrics={"loss": 1.0}, time=1.7e9, max_steps=20)
TEXTS = ("", "\0", "{", "[]", "5", "null", '"x"', "{}", DEEP, '{"a": NaN}', "\ufeff{}", "\ud800", '{"metrics": [1]}')


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# -- receipts ----------------------------------------------------------------------------------------------------------


def receipt_with(folder: Path, changes: dict) -> Path:
    """Write a receipt some of whose fields hold other values, its own checksum right."""
    body = json.loads(RECEIPT.write(folder).read_text())
    body.pop("receipt_sha256")
    body |= changes
    body["receipt_sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / RECEIPT.name).write_text(json.dumps(body))
    return folder / RECEIPT.name


def test_a_whole_receipt_comes_back(tmp_path):
    assert read_receipt(RECEIPT.write(tmp_path)) == RECEIPT
    assert read_receipt(receipt_with(tmp_path, {"more": 1})) == RECEIPT, "fields of later versions are passed over"


@given(st.dictionaries(st.sampled_from([*RECEIPT.__dict__]), VALUES, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_a_receipt_of_any_values_is_typed_or_damaged(changes):
    with TemporaryDirectory() as folder:
        path = receipt_with(Path(folder), changes)
        try:
            found = read_receipt(path)
        except DamagedError as error:
            assert "is damaged" in str(error) and str(error).isprintable()
            return
        numbers = [found.step, found.epoch, found.batch, found.size, found.max_steps, found.world_size]
        assert all(type(one) is int and one >= 0 for one in numbers) and isinstance(found.time, int | float)
        assert all(isinstance(value, int | float) for value in found.metrics.values())


def test_a_receipt_of_a_newer_version_says_so(tmp_path):
    with pytest.raises(DamagedError, match="newer nbkit"):
        read_receipt(receipt_with(tmp_path, {"format": FORMAT + 1, "step": "in another form"}))


ODD_RECEIPTS = [
    {"settings": {"module": [1]}}, {"settings": {"module_hparams": "x"}}, {"settings": [1]}, {"world_size": 0},
    {"chosen": {"pieces": 0}}, {"monitor": {"name": [1]}}, {"monitor": {"best": "y"}},
    {"training": {"optimizers": "Adam"}},
    {"training": {"optimizers": [1]}}, {"training": {"callbacks": 3}}, {"training": {"seed": "x"}},
    {"training": {"callback_settings": {"a": [1]}}}, {"training": {"validation": {"a": 1}}},
    {"training": {"validation": {"a": {"contents": [1]}}}}, {"training": {"validated": "loss"}},
    {"versions": {"torch": 2}},
]  # fmt: skip


@pytest.mark.parametrize("changes", ODD_RECEIPTS, ids=str)
def test_what_is_compared_with_another_session_has_its_form(changes, tmp_path):
    with pytest.raises(DamagedError, match="is damaged: "):
        read_receipt(receipt_with(tmp_path, changes))


def test_a_receipt_of_another_phase_does_not_count(tmp_path):
    path = RECEIPT.write(tmp_path)
    assert read_receipt(path, slug="p") == RECEIPT
    with pytest.raises(DamagedError, match="belongs to the phase 'p', not to 'q'"):
        read_receipt(path, slug="q")
    store = FolderStore(tmp_path / "store")
    store.put(path, f"q/checkpoints/{RECEIPT.name}")
    with pytest.raises(DamagedError, match="belongs to the phase 'p'"):
        fetch_receipt(store, f"q/checkpoints/{RECEIPT.name}", tmp_path / "fetched")


# -- results, histories, rehearsals, pushes ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["results.json", "rehearsal.json", "metrics.jsonl", "pushes/20260101T000000-aa.json"])
def test_an_odd_file_of_a_store_is_named_and_stops_no_reader(tmp_path, text, name, capsys):
    store = FolderStore(tmp_path / "store")
    path = store.path(f"p/{name}")
    path.parent.mkdir(parents=True)
    path.write_bytes(encode(text))
    (row,) = read_status(store, ["p"])
    assert row.slug == "p"
    assert read_pushes(store, "p") == [] and ("no record of a push" in capsys.readouterr().err) == ("pushes" in name)
    if name == "results.json" and text not in ("{}",):
        with pytest.raises(UsageError, match="not a valid results.json"):
            Results("p", store, tmp_path / "work")
    if name == "metrics.jsonl":
        said: list[str] = []
        assert fetch_history(store, "p", tmp_path / "work", said.append) == []
        assert bool(said) == bool(text) and all(len(line) < 300 for line in said)


@given(st.lists(st.dictionaries(st.sampled_from(["step", "loss", "a"]), VALUES, max_size=3) | VALUES, max_size=6))
@settings(max_examples=60, deadline=None)
def test_of_a_history_of_anything_the_rows_that_fit_are_kept(rows):
    with TemporaryDirectory() as folder:
        store, good = FolderStore(Path(folder, "store")), {"step": 3, "loss": 0.5, "gone": None}
        path = store.path("p/metrics.jsonl")
        path.parent.mkdir(parents=True)
        path.write_bytes(encode("".join(json.dumps(row) + "\n" for row in [*rows, good])))
        found = fetch_history(store, "p", Path(folder, "work"), lambda text: None)
        assert found[-1] == good
        assert all(value is None or isinstance(value, int | float) for row in found for value in row.values())


@given(st.dictionaries(st.sampled_from(["slug", "ref", "time", "hours", "version", "gpu", "done"]), VALUES, min_size=1))
@settings(max_examples=40, deadline=None)
def test_a_push_of_any_values_is_left_out_or_typed(changes):
    with TemporaryDirectory() as folder:
        store = FolderStore(folder)
        push = Push("p", "user/nbkit-p", "https://example.org/p", 3, 1.7e9, 9.0, True, "hand")
        name = record_push(store, push)
        store.path(name).write_bytes(encode(json.dumps(push.row() | changes)))
        said: list[str] = []
        found = read_pushes(store, "p", said.append)
        assert len(found) + len(said) == 1
        assert all(one.slug == "p" and isinstance(one.hours, int | float) and type(one.gpu) is bool for one in found)


# -- journals ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["open", "item", "begin", "step", "save", "close", "new"]), VALUES), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_a_journal_of_anything_can_be_counted(rows):
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        whole = [{"t": 1.0, "e": "open", "slug": "p"}, {"t": 2.0, "e": "item", "key": "a", "s": 0.5}]
        odd = [value if isinstance(value, dict) else {"t": 1.5, "e": kind, "key": value, "step": value, "s": value}
               for kind, value in rows]  # fmt: skip
        path.write_bytes(encode("\n".join(map(json.dumps, [*whole[:1], *odd, [], 3, *whole[1:]])) + '\n{"t": 1, "e'))
        events = read_journal(path)
        assert events[0] == whole[0] and events[-1] == whole[1]
        session = RehearsedSession(1, 0.0, ended=9.0, events=events)
        assert account([session])["items"] >= 1 and session.row()["items"] >= 1
        assert doing(events, 5.0, 0.0, 10.0)
        assert all(isinstance(event["key"], str) for event in of_kind(events, "item"))


def test_what_a_session_writes_to_its_journal_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_JOURNAL", str(tmp_path / "journal"))
    append_event("close", {"complete": True, "done": 3, "exit": 0})
    assert [event["done"] for event in read_journal(tmp_path / "journal")] == [3]


# -- what a person writes ----------------------------------------------------------------------------------------------

MANIFESTS = {
    "empty": b"", "no key": b"name\n", "twice": b"key\tkey\na\tb\n", "UTF-16": "key\na\n".encode("utf-16"),
    "UTF-16 without a mark": "key\na\n".encode("utf-16-le"), "NUL": b"key\na\n\0\n", "Latin": b"key\n\xe9\n",
    "two line ends": b"key\na\rb\n", "above": b"key\n../../x\n", "a line of 8 MB": b"key\n" + b"a" * (8 << 20) + b"\n",
    "a header of 8 MB": b"k" * (8 << 20), "too few": b"key\tb\na\n", "steers": b"key\n\x1b[2J\n",
    "half of a character": b"key\n\xed\xa0\x80\n",
}  # fmt: skip


@pytest.mark.parametrize("what", MANIFESTS)
def test_an_odd_manifest_is_refused_in_a_few_words(tmp_path, what):
    path = tmp_path / "p.tsv"
    path.write_bytes(MANIFESTS[what])
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert len(str(caught.value)) < 2500 and "p.tsv" in str(caught.value)


def test_a_byte_order_mark_and_line_ends_of_windows_and_old_macs_are_fine(tmp_path):
    path = tmp_path / "p.tsv"
    for end in (b"\r\n", b"\r"):
        path.write_bytes(b"\xef\xbb\xbfkey\tpath" + end + b"a\tb c" + end)
        assert list(read_manifest(path)) == [{"key": "a", "path": "b c"}]


@given(st.binary(max_size=60) | st.text("key\t\n\r\0ab/.\ufeff\x1b", max_size=40).map(encode))
@settings(max_examples=100, deadline=None)
def test_a_manifest_of_any_bytes_is_rows_or_refused(data):
    with TemporaryDirectory() as folder:
        path = Path(folder, "p.tsv")
        path.write_bytes(b"key\tpath\n" + data)
        try:
            rows = list(read_manifest(path))
        except UsageError:
            return
        assert all(set(row) == {"key", "path"} and ".." not in row["key"].split("/") for row in rows)


PHASES = ("phase = 3", "phase = [3]", "[phase]\n", "[[phase]]\nslug = 3", "owner = 3\nphase = []", "x = 1", "a = ",
          "\0", "phase = " + "[" * 3000, "[[phase]]\nslug = 'a'\n")  # fmt: skip
WHOLE = """[[phase]]
number = 1
slug = "a"
module = ""
title = "A"
needs = []
makes = []
accelerator = "cpu"
sessions = 1
session_hours = 1.0
items = false
figures = []
scores = []
"""


@pytest.mark.parametrize("text", PHASES)
def test_an_odd_map_of_phases_is_refused_in_words(tmp_path, text):
    path = tmp_path / "phases.toml"
    path.write_text(text)
    if text.startswith("owner"):
        assert load_phases(path) == ()
        return
    with pytest.raises(UsageError):
        load_phases(path)


HOURS = [f"session_hours = {text}" for text in ("0.0", "nan", "inf", "-1")]


@pytest.mark.parametrize("line", [*HOURS, "sessions = -1", "number = -5", f"number = {10**30}", "slug = '../x'"])
def test_a_phase_with_a_number_that_cannot_be_is_refused(tmp_path, line):
    path = tmp_path / "phases.toml"
    path.write_text(WHOLE)
    assert load_phases(path)[0].slug == "a"
    name = line.split()[0]
    path.write_text("".join(f"{line}\n" if row.split()[0] == name else f"{row}\n" for row in WHOLE.splitlines()))
    with pytest.raises(UsageError):
        load_phases(path)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_a_notebook_of_any_json_is_one_or_refused(value):
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.ipynb")
        for content in (
            value,
            {"cells": value},
            {"cells": [value]},
            {"cells": [{"cell_type": "code", "source": value}]},
        ):
            path.write_bytes(encode(json.dumps(content)))
            try:
                read_notebook(path)
            except NbkitError:
                continue


@given(VALUES)
@settings(max_examples=60)
def test_a_log_of_any_json_is_text(value):
    assert isinstance(log_text(json.dumps(value)), str) and isinstance(log_text(json.dumps([{"time": value}])), str)


@pytest.mark.parametrize(
    "text", [text for text in TEXTS if text in ("", "\0", "{", DEEP, '{"a": NaN}', "\ufeff{}", "\ud800")]
)
def test_what_is_no_json_raises_nothing_else(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(encode(text))
    with pytest.raises(ValueError):
        read_json(path)
