"""The Drive store's five verbs, and what parallel sessions can do to names that are not unique."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.store.drive import memory as drive_memory
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore, open_drive
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.protocol import Store
from nbkit.tools.commands.check import check_store
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import AFTER, FOLDER, ROOT, Plan, md5_of

BAD_NAMES = ("../x", "/abs", "a//b", "a/../b", "a\\b", ".hidden", "x\n", "", "a/", "n" * 201)


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


@pytest.fixture
def store(drive) -> DriveStore:
    return another(drive)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def another(drive: Loopback) -> DriveStore:
    """Return what a parallel session would have: a store that remembers nothing of the first one's."""
    return DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the test"), first_wait=0.01)


def content_of(store: Store, name: str, folder: Path) -> bytes:
    store.get(name, folder / "fetched")
    return (folder / "fetched").read_bytes()


def make_by_hand(drive: Loopback, title: str, parent: str, content: bytes | None) -> str:
    """Make a file or folder as another session would, and give its id."""
    meta = {"title": title, "parents": [{"id": parent}], "id": drive.drive.new_id()}
    if content is None:
        return drive.drive._add(meta | {"mimeType": FOLDER}, meta["id"])["id"]
    return drive.drive.store(meta, None, content, len(content))["id"]


# -- the five verbs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n", b"--x\n\n--\r\n", os.urandom(100_000), b"\n" * 70_000])
def test_put_stat_list_get_give_the_same_content(drive, store, file, tmp_path, content):
    path = file(content)
    put = store.put(path, "a/b/it's (1).bin")
    assert (put.size, put.checksum[:7]) == (len(content), "sha256:")
    assert another(drive).stat("a/b/it's (1).bin").checksum == f"md5:{md5_of(content)}"
    assert [s.name for s in another(drive).list("a/b")] == ["a/b/it's (1).bin"]
    assert content_of(another(drive), "a/b/it's (1).bin", tmp_path) == content
    assert drive.drive.tree() == [("a/b/it's (1).bin", md5_of(content), len(content))]


def test_putting_the_same_again_sends_nothing_and_other_content_replaces_it(drive, store, file, tmp_path):
    store.put(file("one"), "a/x")
    sent = drive.drive.counts["POST /upload/drive/v2"]
    for again in (store, another(drive)):
        again.put(file("one"), "a/x")
    assert drive.drive.counts["POST /upload/drive/v2"] == sent
    another(drive).put(file("two"), "a/x")
    assert content_of(store, "a/x", tmp_path) == b"two"
    assert len(drive.drive.tree()) == 1


def test_list_gives_names_in_order_below_a_prefix_of_any_depth(drive, store, file):
    names = ["a", "b/1", "b/2/x", "b/2/y", "b2/z", "c/d/e/f", "B/1"]
    for name in names:
        store.put(file(name), name)
    for seen in (store, another(drive)):
        assert [s.name for s in seen.list()] == sorted(names)
        for prefix in ("b", "b/", "b/2", "b/2/", "b/2/x", "c/d", "nothing", "nothing/at/all", "b/1/2"):
            assert [s.name for s in seen.list(prefix)] == sorted(n for n in names if n.startswith(prefix)), prefix


def test_listings_of_many_pages_and_many_folders_are_whole(drive, store, file):
    drive.drive.plan.page = 7
    names = [f"items/sub-{i % 45:03d}/{i:04d}" for i in range(100)]
    for name in names:
        store.put(file(name), name)
    assert [s.name for s in another(drive).list("items/")] == sorted(names)


def test_delete_is_for_good_and_may_be_repeated(drive, store, file):
    store.put(file("x"), "a/x")
    row = next(r for r in drive.drive.rows.values() if r["title"] == "x")
    store.delete("a/x")
    store.delete("a/x")
    store.delete("never/was")
    assert row["id"] not in drive.drive.rows, "the trash would count against the quota"
    assert store.stat("a/x") is None and list(store.list("a")) == []
    store.put(file("y"), "a/x")
    assert len(drive.drive.tree()) == 1


def test_name_that_is_not_there_is_said_in_words_and_leaves_no_file(store, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no a/x"):
        store.get("a/x", tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_reach_no_request(drive, store, file, tmp_path, name):
    for verb in (
        lambda: store.put(file("x"), name),
        lambda: store.get(name, tmp_path / "y"),
        lambda: store.stat(name),
        lambda: store.delete(name),
    ):
        with pytest.raises(UsageError):
            verb()
    assert drive.drive.counts["all"] == 0


def test_file_that_is_not_on_this_disk_is_told_from_one_not_in_the_store(store, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        store.put(tmp_path / "gone", "a/x")
    assert caught.value.filename == str(tmp_path / "gone")


# -- names that came twice ---------------------------------------------------------------------------------------------


def test_two_sessions_that_make_the_same_folder_at_once_lose_nothing(drive, file, tmp_path):
    first, second = another(drive), another(drive)
    for session in (first, second):  # both have looked, neither has made it
        session._tree.folder("", make=True)
        session._tree.memory.take_subfolders("", [])
    first.put(file("1", "1"), "both/one")
    second.put(file("2", "2"), "both/two")
    folders = [r for r in drive.drive.rows.values() if r["title"] == "both"]
    assert len(folders) == 2, "the test wants a folder that was made twice"
    for session in (first, second, another(drive)):
        assert [s.name for s in session.list("both/")] == ["both/one", "both/two"]
        assert content_of(session, "both/one", tmp_path) == b"1"
        assert content_of(session, "both/two", tmp_path) == b"2"
    third = another(drive)
    third.put(file("3", "3"), "both/three")
    oldest = min(folders, key=lambda r: (r["createdDate"], r["id"]))["id"]
    assert next(r for r in drive.drive.rows.values() if r["title"] == "three")["parents"] == [{"id": oldest}]


@pytest.mark.parametrize("by", ["put", "tidy"])
def test_two_files_of_one_name_and_content_become_one(drive, file, tmp_path, by):
    first, second = another(drive), another(drive)
    for session in (first, second):
        session.put(file("k", "k"), "a/known")
    first.put(file("same"), "a/x")
    second.put(file("same"), "a/x")  # its listing is believed for a minute more
    assert [n for n, _, _ in drive.drive.tree()].count("a/x") == 2
    kept = min((r for r in drive.drive.rows.values() if r["title"] == "x"), key=lambda r: (r["createdDate"], r["id"]))
    assert [s.name for s in another(drive).list("a/x")] == ["a/x"]
    assert [n for n, _, _ in drive.drive.tree()].count("a/x") == 2, "a reader removes nothing"
    another(drive).put(file("same"), "a/x") if by == "put" else another(drive).tidy("a/")
    assert [r["id"] for r in drive.drive.rows.values() if r["title"] == "x"] == [kept["id"]]
    assert content_of(second, "a/x", tmp_path) == b"same"
    for session, content in ((first, "newer"), (second, "newest")):  # one of them remembers an id that is gone
        assert content_of(session, "a/x", tmp_path) in (b"same", b"newer")
        session.put(file(content), "a/x")
        assert content_of(another(drive), "a/x", tmp_path) == content.encode()
    assert [n for n, _, _ in drive.drive.tree()].count("a/x") == 1


def test_two_contents_of_one_name_show_the_later_and_lose_none_before_the_next_put(drive, file, tmp_path):
    first, second = another(drive), another(drive)
    for session in (first, second):
        session.put(file("k", "k"), "a/known")
    first.put(file("earlier"), "a/x")
    second.put(file("later"), "a/x")
    for _ in range(2):
        assert [(s.name, s.size) for s in another(drive).list("a/x")] == [("a/x", 5)]
        another(drive).tidy("a/")
    assert len([n for n, _, _ in drive.drive.tree() if n == "a/x"]) == 2, "only a put removes other content"
    assert content_of(another(drive), "a/x", tmp_path) == b"later"
    third = another(drive)
    third.put(file("last"), "a/x")
    assert [(n, s) for n, _, s in drive.drive.tree() if n == "a/x"] == [("a/x", 4)]
    assert content_of(first, "a/x", tmp_path) == content_of(second, "a/x", tmp_path) == b"last"


@pytest.mark.parametrize("by", ["put", "tidy"])
def test_two_sessions_that_tidy_up_at_once_never_remove_the_last_copy(drive, file, by):
    for _ in range(15):
        ids = [make_by_hand(drive, "x", drive.drive.made_folder, b"same") for _ in range(3)]
        sessions = [another(drive) for _ in range(3)]
        ways = {"put": lambda s: s.put(file("same"), "x"), "tidy": lambda s: s.tidy("")}
        threads = [threading.Thread(target=ways[by], args=(s,)) for s in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [n for n, _, _ in drive.drive.tree()] == ["x"]
        drive.drive.delete(next(id for id in ids if id in drive.drive.rows))


def test_delete_takes_every_file_of_the_name(drive, store):
    for content in (b"1", b"2", b"2"):
        make_by_hand(drive, "x", drive.drive.made_folder, content)
    store.delete("x")
    assert drive.drive.tree() == []


def test_titles_that_differ_in_case_only_are_two_names(drive, store, file, tmp_path):
    store.put(file("upper"), "a/X")
    store.put(file("lower"), "a/x")
    assert content_of(another(drive), "a/x", tmp_path) == b"lower"
    assert content_of(another(drive), "a/X", tmp_path) == b"upper"


# -- what others do meanwhile ------------------------------------------------------------------------------------------


def test_file_that_a_person_removed_or_trashed_is_sent_again(drive, store, file):
    store.put(file("x"), "a/x")
    drive.drive.delete(next(r["id"] for r in drive.drive.rows.values() if r["title"] == "x"))
    store.put(file("x"), "a/x")
    assert len(drive.drive.tree()) == 1, "a put may not believe what it remembers"
    next(r for r in drive.drive.rows.values() if r["title"] == "x")["labels"]["trashed"] = True
    store.put(file("x"), "a/x")
    alive = [r for r in drive.drive.rows.values() if r["title"] == "x" and not r["labels"]["trashed"]]
    assert len(alive) == 1


def test_folder_that_a_person_removed_is_made_again(drive, store, file):
    store.put(file("1"), "a/b/1")
    drive.drive.delete(next(r["id"] for r in drive.drive.rows.values() if r["title"] == "a"))
    store.put(file("2"), "a/b/2")
    assert [n for n, _, _ in drive.drive.tree()] == ["a/b/2"]


def test_content_that_another_session_replaced_is_fetched_whole(drive, store, file, tmp_path):
    store.put(file("short"), "a/x")
    another(drive).put(file("a longer content than before"), "a/x")
    assert content_of(store, "a/x", tmp_path) == b"a longer content than before"
    another(drive).put(file("s"), "a/x")
    assert content_of(store, "a/x", tmp_path) == b"s"


def test_listing_that_lags_behind_shows_what_this_session_wrote_and_not_what_it_removed(drive, store, file):
    drive.drive.plan.lag = 30.0
    store.put(file("1"), "a/one")
    store.put(file("2"), "a/two")
    assert [s.name for s in store.list("a/")] == ["a/one", "a/two"]
    assert store.stat("a/one").size == 1
    store.delete("a/one")
    assert store.stat("a/one") is None
    store.put(file("2 and more"), "a/two")
    assert len(drive.drive.tree()) == 1


@pytest.mark.parametrize("lost_answer", AFTER)
def test_listing_that_lags_behind_shows_a_file_whose_answer_was_lost(drive, store, file, lost_answer):
    drive.drive.plan.lag = 30.0
    store.put(file("1"), "a/one")
    drive.drive.plan.fail_next = [lost_answer]
    store.put(file("2"), "a/two")
    assert drive.drive.faults[lost_answer] == 1
    assert [s.name for s in store.list("a/")] == ["a/one", "a/two"]
    assert store.stat("a/two").size == 1


def test_what_is_new_in_a_folder_is_looked_for_once_the_listing_is_old(drive, store, file, monkeypatch):
    store.put(file("1"), "a/one")
    another(drive).put(file("2"), "a/two")
    monkeypatch.setattr(drive_memory, "FRESH", 0.0)
    before = drive.drive.counts["POST /upload/drive/v2/files"]
    store.put(file("2"), "a/two")
    assert drive.drive.counts["POST /upload/drive/v2/files"] == before, "it was there already"
    assert [n for n, _, _ in drive.drive.tree()] == ["a/one", "a/two"]


def test_threads_put_into_one_new_folder_and_make_it_once(drive, store, file):
    paths = [file(f"content {i}", f"file-{i}") for i in range(24)]
    barrier, faults = threading.Barrier(8), []

    def work(share: list[Path]) -> None:
        barrier.wait()
        try:
            for path in share:
                store.connect().put(path, f"new/deep/{path.name}")
                store.connect().put(path, "new/deep/the-same-name")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(paths[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    names = [f"new/deep/{p.name}" for p in paths] + ["new/deep/the-same-name"]
    assert [n for n, _, _ in drive.drive.tree()] == sorted(names)
    assert sum(r["mimeType"] == FOLDER for r in drive.drive.rows.values()) == 3
    assert drive.drive.counts["POST /token"] == 1, "one login serves all threads"


def test_small_file_costs_one_request(drive, store, file):
    store.put(file("0"), "a/0")
    before = drive.drive.counts["all"]
    for i in range(1, 11):
        store.put(file(str(i)), f"a/{i}")
    assert drive.drive.counts["all"] - before == 10


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_addresses_of_a_folder_are_understood(drive, monkeypatch):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text())
    id = drive.drive.made_folder
    for url in (f"gdrive://{id}", f"gdrive://{id}/", f"https://drive.google.com/drive/folders/{id}?usp=sharing"):
        opened = open_store(url)
        assert isinstance(opened, DriveStore) and opened.url == f"gdrive://{id}"
    assert drive.drive.counts["all"] == 0, "opening asks nobody"
    for url in ("gdrive://", "gdrive://short", "gdrive://a/b", "https://drive.google.com/file/d/1abcdefghijk"):
        with pytest.raises(UsageError, match="names no folder in Drive"):
            open_drive(url)


def test_check_finds_a_drive_store_whole(drive, monkeypatch):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text())
    found = check_store(drive.url)
    assert found.state == "ok", found
    assert drive.drive.tree() == []


def test_folder_that_this_login_cannot_see_is_said_in_words(drive, file):
    store = DriveStore("1AnotherPersonsFolder", read_credential(drive.credential_text(), "the test"))
    with pytest.raises(StoreError, match="shows no folder 1AnotherPersonsFolder.*nbkit login drive") as caught:
        store.put(file("x"), "a/x")
    assert not caught.value.passing
    trashed = make_by_hand(drive, "old", ROOT, None)
    drive.drive.rows[trashed]["labels"]["trashed"] = True
    with pytest.raises(StoreError, match="is in the trash"):
        list(DriveStore(trashed, read_credential(drive.credential_text(), "the test")).list())
    inside = make_by_hand(drive, "inside", trashed, b"x")
    drive.drive.rows[inside]["labels"]["trashed"] = True  # as Drive says of all that lies in a folder in the trash
    with pytest.raises(StoreError, match="is in the trash"):
        list(DriveStore(trashed, read_credential(drive.credential_text(), "the test")).list())
    a_file = make_by_hand(drive, "file", drive.drive.made_folder, b"x")
    with pytest.raises(UsageError, match="is a file in Drive"):
        list(DriveStore(a_file, read_credential(drive.credential_text(), "the test")).list())
