"""At every instant the newest whole checkpoint can be loaded; a damaged one is passed over, never silently."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkit.runtime.errors import DamagedError, NbkitError, StoreError, UsageError
from nbkit.runtime.ledger.receipts import read_receipt
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.checkpoint_io import load_checkpoint
from nbkit.runtime.training.fetching import fetch_checkpoint
from nbkit.runtime.training.generations import Generations
from nbkit.runtime.training.resuming import find_state
from tests.runtime.training.saving_storm import fields_of, newest_of, opened, save, storm, stray, tree_of
from tests.runtime.training.training_support import DirectOutbox


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("step-*"))


def three(folder: Path, store: Path | None = None) -> None:
    for step in (1, 2, 3):
        save(folder, store, step, size=50)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["TMPDIR here", "TMPDIR on another file system"])
@pytest.mark.kill
def test_kill_during_checkpoint_rename_and_everywhere_else(elsewhere: bool, tmp_path: Path) -> None:
    other = None
    if elsewhere:
        if not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is no other file system here")
        other = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        result = storm(tmp_path, 45, random.Random(3), other)
        assert not other or not list(other.iterdir()), "nothing may be written to TMPDIR"
    finally:
        if other:
            shutil.rmtree(other)
    assert result.kills >= 40
    assert (result.unloadable, result.went_back, result.left_after_opening) == (0, 0, 0)
    assert result.most_stray <= 1 and result.most_generations <= 4 and not result.said


def test_two_newest_and_the_best_are_kept_here_and_in_the_store(tmp_path: Path) -> None:
    folder, store = tmp_path / "a", tmp_path / "s"
    for step in range(1, 9):
        save(folder, store, step, size=50)  # those whose step 5 divides are marked best
    kept = ["step-000000005", "step-000000007", "step-000000008"]
    expected = sorted(name + suffix for name in kept for suffix in (".ckpt", ".json"))
    assert names(folder) == names(store) == expected
    assert fetch_checkpoint(FolderStore(store), "tiny", "best", tmp_path / "f").name == "step-000000005.ckpt"
    assert fetch_checkpoint(FolderStore(store), "tiny", "newest", tmp_path / "f").name == "step-000000008.ckpt"
    with pytest.raises(UsageError, match="holds no checkpoint of other"):
        fetch_checkpoint(FolderStore(store), "other", "best", tmp_path / "f")


def test_wiped_machine_goes_on_from_the_store(tmp_path: Path) -> None:
    three(tmp_path / "a", tmp_path / "s")
    assert newest_of(tmp_path / "fresh machine", tmp_path / "s") == (3, [])


def test_newer_here_than_in_the_store_wins_and_is_sent(tmp_path: Path) -> None:
    three(tmp_path / "a", tmp_path / "s")
    save(tmp_path / "a", None, 4, size=50)  # killed before the upload
    generations = opened(tmp_path / "a", tmp_path / "s")
    assert generations.newest()[0].step == 4
    generations.send_left_over()
    assert newest_of(tmp_path / "fresh machine", tmp_path / "s") == (4, [])


def test_a_deleted_store_is_named_where_this_machine_still_has_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbkit.runtime.training.resuming.check_same", lambda *same: None)
    monkeypatch.setattr("nbkit.runtime.training.exact.form.form_fault", lambda *given: None)  # these hold no training
    three(tmp_path / "a", tmp_path / "s")
    said: list[str] = []
    find_state(opened(tmp_path / "a", tmp_path / "s"), {}, False, True, said.append)
    assert not any("The store has no checkpoint" in words for words in said)
    shutil.rmtree(tmp_path / "s")
    assert find_state(opened(tmp_path / "a", tmp_path / "s"), {}, False, True, said.append).receipt.step == 3
    assert "The store has no checkpoint of tiny; that of step 3 is this machine's own" in said[-1]
    assert str(tmp_path / "a" / "checkpoints") in said[-1] and "RESUME = 'fresh'" in said[-1]


def test_newer_in_the_store_than_here_wins(tmp_path: Path) -> None:
    three(tmp_path / "a", tmp_path / "s")
    save(tmp_path / "b", tmp_path / "s", 4, size=50)
    assert newest_of(tmp_path / "a", tmp_path / "s")[0] == 4


def test_damaged_newest_falls_back_with_words_and_deletes_nothing(tmp_path: Path) -> None:
    three(tmp_path)
    path = tmp_path / "checkpoints" / "step-000000003.ckpt"
    promised = path.stat().st_size
    os.truncate(path, 100)
    step, said = newest_of(tmp_path, None)
    assert step == 2 and len(said) == 1
    for words in (str(path), "100 bytes", str(promised), "step 2 is complete and was used", "Nothing was deleted"):
        assert words in said[0]
    assert path.stat().st_size == 100


def test_damaged_here_is_fetched_whole_from_the_store(tmp_path: Path) -> None:
    three(tmp_path / "a", tmp_path / "s")
    os.truncate(tmp_path / "a" / "checkpoints" / "step-000000003.ckpt", 100)
    step, said = newest_of(tmp_path / "a", tmp_path / "s")
    assert step == 3 and "100 bytes" in said[0]


def test_damaged_in_the_store_falls_back(tmp_path: Path) -> None:
    three(tmp_path / "a", tmp_path / "s")
    os.truncate(tmp_path / "s" / "tiny" / "checkpoints" / "step-000000003.ckpt", 100)
    step, said = newest_of(tmp_path / "fresh machine", tmp_path / "s")
    assert step == 2 and "step-000000003.ckpt" in said[0]


def test_all_damaged_is_an_error_and_never_step_zero(tmp_path: Path) -> None:
    three(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        os.truncate(path, 10)
    with pytest.raises(DamagedError, match="All checkpoints of tiny are damaged.*fresh=True"):
        opened(tmp_path, None).newest()
    assert len(names(tmp_path)) == 4, "nothing may be deleted"


@pytest.mark.parametrize("gone", [["json", "ckpt"], ["ckpt"]])
def test_what_a_live_session_deletes_after_the_listing_is_no_damage(tmp_path: Path, gone: list[str]) -> None:
    """The listing shows step 1 only; it was pruned for step 2 since."""
    store, said = FolderStore(tmp_path / "s"), []
    for step in (1, 2):
        save(tmp_path / "a", tmp_path / "s", step, size=50)
    generations = Generations("tiny", tmp_path / "b", store, None, said.append).open()
    generations._there_names = {name for name in generations._there_names if "000000001" in name}
    for kind in gone:
        store.delete(f"tiny/checkpoints/step-000000001.{kind}")
    found = generations.newest()
    assert found is not None and found[0].step == 2 and not said
    for name in names(tmp_path / "s"):
        if name.endswith(".ckpt"):
            store.delete(f"tiny/checkpoints/{name}")
    with pytest.raises(DamagedError, match="not in the store though its receipt is"):
        Generations("tiny", tmp_path / "c", store).newest()


def test_fresh_begins_beside_the_old_ones(tmp_path: Path) -> None:
    folder, store = tmp_path / "a", tmp_path / "s"
    three(folder, store)
    keep = FolderStore(store)
    generations = Generations("tiny", folder, keep, DirectOutbox(keep), print).open(fresh=True)
    assert generations.newest() is None
    generations.send(generations.write(tree_of(1, 50), fields_of(1)))
    assert newest_of(folder, store) == (1, [])
    assert newest_of(tmp_path / "fresh machine", store) == (1, [])
    assert "step-000000003.ckpt" in names(store), "the earlier run stays"


class Deaf(FolderStore):
    def list(self, prefix: str = ""):
        raise StoreError("the store does not answer", passing=True)


def test_store_that_cannot_be_asked_is_no_reason_to_begin_from_an_older_state(tmp_path: Path) -> None:
    three(tmp_path)
    with pytest.raises(StoreError):
        Generations("tiny", tmp_path, Deaf(tmp_path / "s")).open()


def test_full_disk_leaves_the_older_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(tmp_path)
    generations = opened(tmp_path, None)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        generations.write(tree_of(4, 50), fields_of(4))
    monkeypatch.undo()
    assert stray(tmp_path) == [] and newest_of(tmp_path, None) == (3, [])


def test_slow_store_gets_the_newest_and_not_a_queue(tmp_path: Path) -> None:
    sent, then = [], []

    class Slow:
        def send(self, files, label, done):
            sent.append(label)
            then.append(done)

        def waiting(self):
            names = ["tiny/checkpoints/step-000000001.ckpt", "tiny/checkpoints/step-000000001.json"]
            return names if len(then) == 1 else []

        def beside(self):
            return False

    generations = Generations("tiny", tmp_path, FolderStore(tmp_path / "s"), Slow(), print).open()
    for step in range(1, 6):
        generations.send(generations.write(tree_of(step, 50), fields_of(step, best=step in (2, 3))))
    assert sent == ["tiny step 1"]
    assert "step-000000001.ckpt" in names(tmp_path), "what is on its way must not be pruned"
    then[0]()
    generations.send(generations.write(tree_of(6, 50), fields_of(6)))
    generations.send(generations.write(tree_of(7, 50), fields_of(7)), final=True)
    assert sent == ["tiny step 1", "tiny step 3", "tiny step 6", "tiny step 7"], "of two best ones the later goes"
    assert "step-000000001.ckpt" not in names(tmp_path)


def test_dropped_upload_does_not_keep_later_checkpoints_here(tmp_path: Path) -> None:
    sent = []

    class Dropping:
        def send(self, files, label, done):
            sent.append(label)

        def waiting(self):
            return []

        def beside(self):
            return False

    generations = Generations("tiny", tmp_path, FolderStore(tmp_path / "s"), Dropping(), print).open()
    for step in (1, 2):
        generations.send(generations.write(tree_of(step, 50), fields_of(step)))
    assert sent == ["tiny step 1", "tiny step 2"]


def test_checkpoint_whose_receipt_is_on_its_way_is_not_deleted_in_the_store(tmp_path: Path) -> None:
    class Other(DirectOutbox):
        """Has another thread, between the checkpoint and the receipt of step 1."""

        left = ("step-000000001.ckpt", "step-000000001.json")

        def waiting(self):
            return [f"tiny/checkpoints/{name}" for name in self.left]

    save(tmp_path / "a", None, 1, size=50)
    store = FolderStore(tmp_path / "s")
    first, outbox = tmp_path / "a" / "checkpoints" / Other.left[0], Other(store)
    store.put(first, f"tiny/checkpoints/{first.name}")
    generations = Generations("tiny", tmp_path / "a", store, outbox, print).open()
    for step in (2, 3, 4):
        generations.send(generations.write(tree_of(step, 50), fields_of(step)))
    assert Other.left[0] in names(tmp_path / "s")
    store.put(first.with_suffix(".json"), f"tiny/checkpoints/{Other.left[1]}")
    outbox.left = ()
    generations.send(generations.write(tree_of(5, 50), fields_of(5)))
    assert names(tmp_path / "s")[0].startswith("step-000000004")


def _whole(tmp: Path) -> tuple[Path, Path]:
    for step in (1, 2):
        save(tmp, None, step, size=50)
    return tmp / "checkpoints" / "step-000000002.ckpt", tmp / "checkpoints" / "step-000000002.json"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(checkpoint=st.booleans(), cut=st.booleans(), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_truncated_or_flipped_anywhere_is_seen(
    checkpoint: bool, cut: bool, where: float, bit: int, tmp_path: Path
) -> None:
    """Any damage gives the generation before it with words; never wrong content, never an error of Python's."""
    tmp = Path(tempfile.mkdtemp(dir=tmp_path))
    targets = _whole(tmp)
    target, before = targets[not checkpoint], read_receipt(targets[1])
    raw = bytearray(target.read_bytes())
    place = int(where * len(raw))
    if cut:
        raw = raw[:place]
    else:
        raw[place] ^= 1 << bit
    target.write_bytes(raw)
    step, said = newest_of(tmp, None)
    if step == 2:  # what JSON reads the same, such as a blank for a blank
        assert read_receipt(targets[1]) == before
    else:
        assert step == 1 and said
    shutil.rmtree(tmp)


def test_every_length_of_a_receipt(tmp_path: Path) -> None:
    _, path = _whole(tmp_path)
    raw = path.read_bytes()
    for length in range(len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(DamagedError):
            read_receipt(path)


def test_whole_file_that_torch_cannot_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"a": pytest.approx(1)}, path)
    with pytest.raises(NbkitError, match="cannot load .*x.ckpt"):
        load_checkpoint(path)
