"""Several files of one name that this login may not delete: they hinder no other name, and the newest one counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.runtime.store.drive import memory
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.faults import DriveError
from nbkit.runtime.store.drive.store import DriveStore
from tests.runtime.store.drive.drive_loopback import Loopback, Refusal
from tests.runtime.store.drive.drive_state import Plan

REFUSALS = {
    "no right to delete": (403, "insufficientFilePermissions"),
    "an organisation forbids it": (403, "domainPolicy"),
    "gone": (404, "notFound"),
}


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


def store_of(drive: Loopback) -> DriveStore:
    return DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the test"), first_wait=0.01)


def add_twins(drive: Loopback, store: DriveStore, title: str, content: bytes = b"same", count: int = 2) -> None:
    parent = store._tree.folder("a")[0]
    for _ in range(count):
        meta = {"title": title, "parents": [{"id": parent}], "id": drive.drive.new_id()}
        drive.drive.store(meta, None, content, len(content))


def refuse_deletions(drive: Loopback, what: str) -> None:
    def refuse(id: str) -> None:
        raise Refusal(*REFUSALS[what], "refused on purpose")

    drive.drive.delete = refuse


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("old_listing", [False, True])
def test_a_twin_that_may_not_be_deleted_hinders_no_other_name(drive, tmp_path: Path, what, old_listing, monkeypatch):
    refuse_deletions(drive, what)
    (tmp_path / "x").write_bytes(b"one")
    first = store_of(drive)
    first.put(tmp_path / "x", "a/first")
    if old_listing:
        monkeypatch.setattr(memory, "FRESH", -1.0)
        store = first
    else:
        store = store_of(drive)
    add_twins(drive, first, "twin")
    for n in range(6):
        store.put(tmp_path / "x", f"a/other-{n}")
        add_twins(drive, first, f"twin-{n}")
    (tmp_path / "new").write_bytes(b"new content")
    store.put(tmp_path / "new", "a/twin")
    store.put(tmp_path / "new", "a/twin")
    for reader in (store, store_of(drive)):
        assert {stat.name for stat in reader.list("a/other")} == {f"a/other-{n}" for n in range(6)}
        reader.get("a/twin", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"new content"


def test_tidying_goes_on_after_a_twin_that_may_not_be_deleted_and_tells_of_it(drive, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"one")
    store = store_of(drive)
    store.put(tmp_path / "x", "a/first")
    for title in ("k", "m", "z"):
        add_twins(drive, store, title)
    delete, fixed = drive.drive.delete, []

    def refuse_the_first(id: str) -> object:
        if not fixed or id in fixed:
            fixed.append(id)
            raise Refusal(403, "insufficientFilePermissions", "refused on purpose")
        return delete(id)

    drive.drive.delete = refuse_the_first
    with pytest.raises(DriveError, match="deleting a/"):
        store.tidy("a/")
    left = [len(entries) for entries in store_of(drive)._tree.walk("a/").values()]
    assert sorted(left) == [1, 1, 1, 2]
