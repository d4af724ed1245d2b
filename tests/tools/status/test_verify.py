"""Verify: every kind of damage in a store is found and named, and nothing is changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nbkit
from nbkit.ground.files import write_atomically
from nbkit.runtime.ledger.ledger import Ledger, Output
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.verify import verify_store, words


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder store with three items, a checkpoint and results."""
    monkeypatch.chdir(tmp_path)
    session = nbkit.open_session("toy", store=tmp_path / "store")
    for item in session.work([{"key": key} for key in ("a", "b", "sub/c")]):
        with item:
            item.save(x=np.arange(100))
    session.result("score", 0.5, unit="1", baseline=0.1, baseline_is="chance")
    assert session.close()["complete"]
    folder = tmp_path / "store/toy/checkpoints"
    folder.mkdir()
    content = b"weights" * 1000
    (folder / "step-000000010.ckpt").write_bytes(content)
    import hashlib

    Receipt("toy", 10, 0, 10, len(content), hashlib.sha256(content).hexdigest()).write(folder)
    return tmp_path / "store"


def test_a_whole_store_agrees(store):
    found = verify_store(str(store))
    assert not found.faults
    # three items, a receipt and its checkpoint, results.json
    assert found.slugs == {"toy": 6} and found.files == 6 and found.size > 7000


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("hurt", [flip, cut, lambda path: path.unlink()], ids=["flipped bit", "cut", "deleted"])
@pytest.mark.parametrize("name", ["toy/items/a.npz", "toy/items/sub/c.npz", "toy/checkpoints/step-000000010.ckpt"])
def test_a_hurt_file_is_named(store, name, hurt):
    hurt(store / name)
    found = verify_store(str(store))
    assert list(found.faults) == [name] and found.files == 5
    assert f"FAULT {name}" in words(found)


def test_a_hurt_receipt_is_named(store):
    flip(store / "toy/checkpoints/step-000000010.json")
    assert list(verify_store(str(store)).faults) == ["toy/checkpoints/step-000000010.json"]


def test_a_hurt_segment_is_named(store):
    (segment,) = (store / "toy/ledger").rglob("*.jsonl")
    flip(segment)
    assert list(verify_store(str(store)).faults) == [str(segment.relative_to(store))]


def test_results_that_are_no_json_are_named(store):
    cut(store / "toy/results.json")
    (store / "toy/results.json").write_text((store / "toy/results.json").read_text().rstrip("}\n"))
    assert list(verify_store(str(store)).faults) == ["toy/results.json"]


def test_nothing_is_changed(store):
    def listing():
        return {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}

    flip(store / "toy/items/a.npz")
    before = listing()
    verify_store(str(store))
    assert listing() == before


def test_a_checkpoint_without_receipt_does_not_exist(store):
    (store / "toy/checkpoints/step-000000020.ckpt").write_bytes(b"half")
    assert not verify_store(str(store)).faults


def test_what_two_sessions_stored_under_one_name_may_be_either(store, tmp_path):
    from nbkit.runtime.ledger.segments import segment_of

    other = b"other bytes"
    import hashlib

    record = {"e": "done", "k": "a", "o": [["toy/items/a.npz", len(other), hashlib.sha256(other).hexdigest()]]}
    from nbkit.runtime.ledger.segments import encode_line

    segment, data = segment_of("toy", "other-session", 1, [encode_line(record)])
    (store / segment.name).parent.mkdir(parents=True)
    (store / segment.name).write_bytes(data)
    assert not verify_store(str(store)).faults
    (store / "toy/items/a.npz").write_bytes(other)
    assert not verify_store(str(store)).faults


def test_the_row_is_plain(store):
    assert json.loads(json.dumps(verify_store(str(store)).row()))["files"] == 6


def test_two_items_of_an_old_store_with_one_name_are_named(tmp_path):
    """Promises of one name were pooled, so that the loss of one of them went unseen."""
    store = FolderStore(tmp_path / "store")
    ledger = Ledger(tmp_path / "work", "p", "old", store)
    name = "p/items/a/b.npz"
    for key, content in (("a", b"the file b.npz"), ("a/b", b"the arrays")):
        size, sha256 = write_atomically(ledger.local(name), lambda file, content=content: file.write(content))
        ledger.done(key, [Output(name, size, sha256)])
        store.put(ledger.local(name), name)
        ledger.stored(key)
    ledger.close()
    found = verify_store(str(tmp_path / "store"))
    assert found.faults == {name: "is an output of the items a and a/b; the last one replaced it"}
    assert found.damage[0].items == {"a": name, "a/b": name}
