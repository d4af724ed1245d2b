"""One listing for a look: names that a store lacks cost nothing, and what changed since is seen."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from nbkit.runtime.errors import StoreError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import Segment, encode_line, read_state, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.remote import FsspecStore
from nbkit.tools.kaggle.runs import states
from nbkit.tools.phases import load_phases
from nbkit.tools.report.page import write_report
from nbkit.tools.report.panel import StatusPanel
from nbkit.tools.status.listing import Listing, list_once
from nbkit.tools.status.status import read_phase, read_status
from nbkit.tools.status.store_use import read_use


class Counting(FolderStore):
    """Count the calls of each verb, and the names that were fetched."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self.calls, self.got = Counter(), Counter()

    def _count(self, verb: str) -> None:
        self.calls[verb] += 1

    def get(self, name, path, sha256=None):
        self._count("get")
        self.got[name] += 1
        return super().get(name, path, sha256)

    def stat(self, name):
        self._count("stat")
        return super().stat(name)

    def list(self, prefix=""):
        self._count("list")
        return super().list(prefix)

    def take(self) -> Counter:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, Counter()
        self.got.clear()
        return calls


@pytest.fixture
def store(tmp_path, monkeypatch) -> Counting:
    monkeypatch.chdir(tmp_path)
    return Counting(tmp_path / "store")


def write(store: FolderStore, name: str, content: bytes) -> Path:
    path = Path(store.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_receipt(store: FolderStore, slug: str, step: int) -> None:
    folder = Path(store.path(f"{slug}/checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    Receipt(slug, step, 0, step, 3, "0" * 64, max_steps=100, time=time.time(), session="s").write(folder)


def fill(store: FolderStore) -> int:
    """Write a little of every phase of the map; return how many files a status needs."""
    phases = load_phases()
    for phase in phases:
        records = [{"e": "open", "t": 1.0}, {"e": "close", "t": 2.0, "left": 0, "done": 0, "complete": True}]
        segment, data = segment_of(phase.slug, "one", 1, [encode_line(record) for record in records])
        write(store, segment.name, data)
        write_receipt(store, phase.slug, 10)
        write(store, f"{phase.slug}/checkpoints/step-000000010.ckpt", b"abc")
        write(store, f"{phase.slug}/rehearsal.json", b"{}")
        write(store, f"{phase.slug}/results.json", b"{}")
        write(store, f"{phase.slug}/items/a.npz", b"abc")
    return 3 * len(phases)  # segment, receipt, rehearsal.json


def status(store) -> None:
    """Read what the command shows."""
    listing = list_once(store)
    rows = read_status(listing)
    read_use(listing)
    states(listing, [row.slug for row in rows])


def test_an_empty_store_is_asked_at_most_three_times(store):
    status(store)
    assert sum(store.take().values()) <= 3
    write_report(store, "page.html")
    assert sum(store.take().values()) <= 3
    panel = StatusPanel(store, None, 30.0)
    panel.look()
    assert sum(store.take().values()) <= 3


def test_a_full_store_is_listed_once_and_only_files_that_are_needed_are_fetched(store):
    needed = fill(store)
    status(store)
    assert store.calls == {"list": 1, "get": needed} and set(store.got.values()) == {1}
    store.take()
    write_report(store, "page.html")
    assert store.calls == {"list": 1, "get": needed + len(load_phases())}, "results.json, too"
    assert set(store.got.values()) == {1} and not any(name.endswith((".ckpt", ".npz")) for name in store.got)


def test_a_panel_fetches_nothing_again_that_has_not_changed(store):
    needed = fill(store)
    panel = StatusPanel(store, None, 30.0)
    panel.look()
    assert store.take() == {"list": 1, "get": needed}
    panel.look()
    assert sum(store.take().values()) <= 3
    write_receipt(store, "bandvar_train", 20)
    path = write(store, "bandvar_train/rehearsal.json", b'{"sums": {"goodput": 0.5}}')
    panel.look()
    assert set(store.got) == {"bandvar_train/rehearsal.json", "bandvar_train/checkpoints/step-000000020.json"}
    assert "step 20" in panel.words()
    before = path.stat().st_mtime_ns
    path.write_bytes(b'{"sums": {"goodput": 0.7}}')  # as large as before
    os.utime(path, ns=(before + 1, before + 1))
    panel.look()
    assert "0.7" in json.dumps([row.goodput for row in panel._rows])


def test_a_few_phases_are_listed_by_themselves(store):
    fill(store)
    read_status(store, ["bandvar_train", "eeg_windows"])
    assert store.calls == {"list": 2, "get": 6}


def test_a_listing_answers_as_the_store_does(store, tmp_path):
    fill(store)
    listing = Listing(store)
    for prefix in ("", "bandvar_train/", "bandvar_train/check", "zzz", "bandvar_train/results.json"):
        assert list(listing.list(prefix)) == list(FolderStore.list(store, prefix))
    store.take()
    assert listing.stat("bandvar_train/rehearsal.json").size == 2 and listing.stat("nothing") is None
    with pytest.raises(FileNotFoundError):
        listing.get("nothing", tmp_path / "x")
    assert not store.calls


def test_names_outside_of_its_prefixes_are_asked_of_the_store(store, tmp_path):
    write(store, "a/x.json", b"{}")
    write(store, "b/x.json", b"{}")
    listing = Listing(store, ["a/"])
    assert [stat.name for stat in listing.list("b/")] == ["b/x.json"] and listing.stat("b/x.json").size == 2
    assert [stat.name for stat in listing.list("")] == ["a/x.json", "b/x.json"]
    assert listing.get("b/x.json", tmp_path / "x").size == 2


def test_a_segment_that_was_merged_since_the_listing_is_found_in_the_larger_one(store, tmp_path):
    lines = [encode_line({"e": "done", "k": key, "o": []}) for key in "abcd"]
    for first in (1, 3):
        segment, data = segment_of("toy", "one", first, lines[first - 1 : first + 1])
        write(store, segment.name, data)
    listing = Listing(store)
    for path in Path(store.path("toy/ledger/one")).iterdir():
        path.unlink()
    segment, data = segment_of("toy", "one", 1, lines)
    write(store, segment.name, data)
    assert sorted(read_state(listing, "toy", tmp_path / "cache").done) == ["a", "b", "c", "d"]
    assert [Segment.parse(stat.name).last for stat in listing.list("toy/ledger/")] == [4]


def test_receipts_that_were_pruned_since_the_listing_do_not_hide_newer_ones(store, tmp_path):
    write_receipt(store, "toy", 10)
    listing = Listing(store)
    Path(store.path("toy/checkpoints/step-000000010.json")).unlink()
    write_receipt(store, "toy", 30)
    assert read_phase(listing, "toy", None, tmp_path / "cache").step == 30


def test_where_a_listing_shows_no_change_everything_is_fetched_again(tmp_path):
    remote = FsspecStore("memory://nbkit-test-listing")
    (tmp_path / "x").write_bytes(b'{"a": 1}')
    remote.put(tmp_path / "x", "toy/rehearsal.json")
    listing = Listing(remote)
    listing.get("toy/rehearsal.json", tmp_path / "back")
    (tmp_path / "x").write_bytes(b'{"a": 2}')
    remote.put(tmp_path / "x", "toy/rehearsal.json")
    listing.refresh()
    listing.get("toy/rehearsal.json", tmp_path / "back")
    assert json.loads((tmp_path / "back").read_bytes()) == {"a": 2}


def test_a_listing_that_fails_changes_nothing(store):
    write(store, "toy/x.json", b"{}")
    listing = Listing(store)

    def broken(prefix=""):
        raise StoreError("the connection broke")

    store.list = broken
    with pytest.raises(StoreError):
        listing.refresh()
    assert [stat.name for stat in listing.list("toy/")] == ["toy/x.json"]
