"""What a listing of a Drive store asks, and that it is whole all the same."""

from __future__ import annotations

import pytest

from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import Plan, Refusal
from tests.runtime.store.drive.test_many_sessions import make


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


def filled(drive: Loopback, names: list[str]) -> DriveStore:
    """Put files into the Drive and return a store that remembers nothing of them."""
    folders: dict[str, str] = {}
    for name in names:
        make(drive, name, b"x", folders)
    return DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the test"), first_wait=0.01)


def listed(store: DriveStore) -> list[str]:
    return [found.name for found in store.list()]


def test_whole_store_costs_a_login_and_a_request_per_thousand_files(drive):
    names = [f"{i}/deep/{i}" for i in range(3)]
    assert listed(filled(drive, names)) == names
    assert drive.drive.counts["all"] == 2, "what lies in the store's folder shows that it is there"


def test_whole_store_in_a_shared_drive_is_asked_folder_by_folder(drive, monkeypatch):
    """A search over everything shows only what the user has opened there, so the store would seem to lack files."""
    names = [f"{i}/deep/{i}" for i in range(3)]
    store = filled(drive, names)
    for row in drive.drive.rows.values():
        row["driveId"] = "0AShared"
    search = drive.drive.search

    def search_of_a_member(text, *args):
        found = search(text, *args)
        opened = [row for row in found["items"] if "in parents" in text or row["title"] != "1"]
        return found | {"items": opened}

    monkeypatch.setattr(drive.drive, "search", search_of_a_member)
    assert listed(store) == names
    assert listed(store) == names


@pytest.mark.parametrize(("longest", "requests"), [(100, 4), (99, 7), (40, 13)])
def test_query_over_more_folders_than_drive_takes_is_asked_in_parts(drive, monkeypatch, longest, requests):
    names = [f"{i:03d}/x" for i in range(250)]
    store, search, asked = filled(drive, names), drive.drive.search, []

    def search_of_short_queries(text, *args):
        asked.append(text.count("in parents"))
        if asked[-1] > longest:
            raise Refusal(400, "invalid", "The query is too complex.")
        return search(text, *args)

    monkeypatch.setattr(drive.drive, "search", search_of_short_queries)
    monkeypatch.setattr(store._tree, "_everything", lambda: None)  # as for a store among many other files
    assert listed(store) == names
    assert len(asked) == requests and max(asked) == 100 and sum(n > longest for n in asked) <= 2
