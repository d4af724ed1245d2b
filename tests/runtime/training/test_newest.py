"""Everyone who asks for the newest checkpoint gets the same answer, after ``fresh=True`` and with damaged receipts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.generations import Generations
from nbkit.runtime.training.newest import newest_receipts, newest_step
from nbkit.tools.status.status import read_status
from nbkit.tools.status.verify import verify_store
from tests.runtime.training.saving_storm import fields_of, tree_of
from tests.runtime.training.training_support import DirectOutbox

CONTENT = b"the bytes of a checkpoint"


def card_of(store: Path, folder: Path) -> tuple[int, str]:
    """Return the step on a session's card (0 where it shows none), and all that was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), nbkit.open_session("tiny", store=store, folder=folder):
        pass
    found = re.search(r"a checkpoint at step (\d+) is in the store", printed.getvalue())
    return int(found[1]) if found else 0, printed.getvalue()


def step_of_status(store: Path) -> int:
    (row,) = read_status(str(store), ["tiny"])
    return row.step


def step_of_training(store: Path, folder: Path) -> int:
    found = Generations("tiny", folder, FolderStore(store), say=lambda words: None).open().newest()
    return found[0].step if found else 0


def put(store: Path, run: int, step: int, damaged: bool = False) -> Path:
    """Write a checkpoint and its receipt into the store; return the receipt's path."""
    folder = store / "tiny/checkpoints" / ("" if run == 1 else f"run-{run}")
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(CONTENT).hexdigest()
    receipt = Receipt("tiny", step, 0, step, len(CONTENT), digest, max_steps=1000)
    (folder / receipt.file).write_bytes(CONTENT)
    path = receipt.write(folder)
    if damaged:
        path.write_text(path.read_text().replace(digest, digest[::-1]))
    return path


def test_after_fresh_said_twice_all_readers_name_the_third_run(tmp_path):
    store, keep = tmp_path / "s", FolderStore(tmp_path / "s")
    for number, steps in enumerate([(10, 20, 30), (5, 15), (2, 4)]):
        folder = tmp_path / "machine"
        generations = Generations("tiny", folder, keep, DirectOutbox(keep), lambda words: None)
        generations.open(fresh=number > 0)
        for step in steps:
            generations.send(generations.write(tree_of(step, 50), fields_of(step, max_steps=100)))
        answers = {
            newest_step(keep, "tiny"), step_of_status(store), card_of(store, tmp_path / f"card-{number}")[0],
            step_of_training(store, tmp_path / f"other-{number}"),
        }  # fmt: skip
        assert answers == {steps[-1]}
    assert {path.parent.name for path in (store / "tiny").rglob("step-*.ckpt")} == {"checkpoints", "run-2", "run-3"}
    assert not verify_store(str(store), ["tiny"]).faults


def test_a_damaged_receipt_is_passed_over_by_all_with_its_name(tmp_path):
    store = tmp_path / "s"
    put(store, 1, 900)
    put(store, 2, 10)
    name = put(store, 2, 20, damaged=True).relative_to(store).as_posix()
    step, printed = card_of(store, tmp_path / "card")
    (row,) = read_status(str(store), ["tiny"])
    assert (step, row.step, newest_step(FolderStore(store), "tiny")) == (10, 10, 10)
    assert step_of_training(store, tmp_path / "other") == 10
    assert f"[nbkit] The receipt {name} is damaged" in printed and any(name in note for note in row.notes)
    assert list(verify_store(str(store), ["tiny"]).faults) == [name]


def test_what_is_no_checkpoint_is_not_counted(tmp_path):
    store = tmp_path / "s"
    put(store, 1, 1_000_000_000)  # ten digits, after nine in the order of text
    put(store, 1, 999_999_999)
    for name in ("run-2/x.txt", "run-1/step-000000007.json", "old/step-000000008.json", "run-03/step-000000009.json"):
        path = store / "tiny/checkpoints" / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    receipts, notes = newest_receipts(FolderStore(store), "tiny")
    assert [receipt.step for receipt in receipts] == [1_000_000_000, 999_999_999] and not notes
    assert step_of_training(store, tmp_path / "other") == 1_000_000_000
    assert newest_step(FolderStore(store), "other") == 0


RUNS = st.lists(st.dictionaries(st.integers(1, 500), st.booleans(), min_size=1, max_size=4), max_size=4)


@settings(max_examples=30, deadline=None)
@given(RUNS)
def test_all_readers_agree_on_any_store(runs):
    with tempfile.TemporaryDirectory() as root:
        store, other = Path(root, "s"), Path(root, "other")
        for run, steps in enumerate(runs, 1):
            for step, damaged in steps.items():
                put(store, run, step, damaged)
        whole = [step for step, damaged in (runs[-1].items() if runs else ()) if not damaged]
        expected = max(whole, default=0)
        found = newest_step(FolderStore(store), "tiny"), step_of_status(store), card_of(store, Path(root, "card"))[0]
        assert found == (expected,) * 3
        if runs and not whole:
            with pytest.raises(DamagedError, match="All checkpoints of tiny are damaged"):
                step_of_training(store, other)
        else:
            assert step_of_training(store, other) == expected
