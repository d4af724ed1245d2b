"""Every store keeps the same promises: whole or not at all, verified, repeatable, and only under allowed names."""

from __future__ import annotations

import functools
import os
import signal
import time
import uuid
from pathlib import Path

import pytest

import nbkit
from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import DamagedError, StoreError, UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.store import HubStore
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.remote import FsspecStore
from nbkit.runtime.store.retried import Retried
from tests.runtime.children import fork, reap
from tests.runtime.store.hub.hub_loopback import Loopback
from tests.runtime.store.hub.hub_state import TOKEN

KINDS = ("folder", "memory", "local", "dir", "retried", "hub")
ON_DISK = ("folder", "local", "dir")
BAD_NAMES = ("../x", "/abs", "a//b", "a/../b", "a\\b", ".hidden", "a/.b", "x\n", "", "a/", "con:x", "x " * 1, "n" * 201)


@functools.cache
def loopback_hub() -> Loopback:
    return Loopback()


def make(kind: str, folder: Path) -> Store:
    if kind == "hub":
        loopback_hub().hub.make(repo := f"someone/{uuid.uuid4().hex}")
        return HubStore(repo, HubCredential(TOKEN, loopback_hub().endpoint, "the test"), every=0.0, first_wait=0.01)
    if kind == "memory":
        return FsspecStore(f"memory://{uuid.uuid4().hex}/deep")
    if kind == "local":
        return FsspecStore(f"local://{folder}/store")
    if kind == "dir":
        (folder / "store").mkdir(exist_ok=True)
        from fsspec.implementations.dirfs import DirFileSystem
        from fsspec.implementations.local import LocalFileSystem

        store = FsspecStore(f"local://{folder}/store")
        store.fs, store.root = DirFileSystem(str(folder / "store"), LocalFileSystem()), ""
        return store
    return Retried(FolderStore(folder / "store")) if kind == "retried" else FolderStore(folder / "store")


@pytest.fixture(params=KINDS)
def store(request, tmp_path) -> Store:
    return make(request.param, tmp_path)


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_put_stat_get_give_the_same_content(store, file, tmp_path):
    source = file(os.urandom(3 << 20))
    stat = store.put(source, "a/b/c.bin")
    assert (stat.name, stat.size, stat.checksum) == ("a/b/c.bin", 3 << 20, f"sha256:{sha256_of(source)}")
    assert store.stat("a/b/c.bin").size == 3 << 20
    got = store.get("a/b/c.bin", tmp_path / "new folder" / "got", sha256=sha256_of(source))
    assert got.checksum == stat.checksum
    assert (tmp_path / "new folder" / "got").read_bytes() == source.read_bytes()


def test_put_again_changes_nothing_and_new_content_replaces(store, file, tmp_path):
    store.put(file("one"), "x")
    store.put(file("one"), "x")
    assert [s.name for s in store.list()] == ["x"]
    store.put(file("two and longer"), "x")
    store.get("x", tmp_path / "got")
    assert (tmp_path / "got").read_text() == "two and longer"
    store.put(file("six"), "x")  # shorter, and as long as the first
    store.put(file("two"), "x")
    store.get("x", tmp_path / "got")
    assert (tmp_path / "got").read_text() == "two"


def test_empty_file(store, file, tmp_path):
    store.put(file(""), "empty")
    assert store.stat("empty").size == 0
    assert store.get("empty", tmp_path / "got").size == 0
    assert [s.size for s in store.list()] == [0]


def test_what_is_not_there(store, file, tmp_path):
    assert store.stat("nothing") is None
    assert list(store.list()) == [] and list(store.list("no/such/folder/")) == []
    with pytest.raises(FileNotFoundError, match="holds no nothing"):
        store.get("nothing", tmp_path / "got")
    store.delete("nothing")
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "no such file", "x")
    store.put(file("1"), "a/b")
    assert store.stat("a") is None, "a folder is no file"
    assert store.stat("a/b/c") is None, "nothing lies below a file"
    with pytest.raises(FileNotFoundError):
        store.get("a/b/c", tmp_path / "got")
    assert list(store.list("a/b/")) == []


def test_delete_twice(store, file):
    store.put(file("1"), "a/b")
    store.delete("a/b")
    store.delete("a/b")
    assert store.stat("a/b") is None and list(store.list()) == []


def test_list_gives_names_that_begin_with_the_prefix_in_order(store, file):
    names = ["a/b", "a/bc/d", "a/b.x", "ab/c", "a/c", "z", "Z", "a/b-1"]
    for name in names:
        store.put(file(name), name)
    for prefix in ("", "a", "a/", "a/b", "a/bc/", "a/bc/d", "a/b.", "z", "nothing", "a/nothing/"):
        assert [s.name for s in store.list(prefix)] == sorted(n for n in names if n.startswith(prefix)), prefix
    assert {s.name: s.size for s in store.list()} == {n: len(n) for n in names}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave_the_store_are_refused(store, file, tmp_path, name):
    source = file("secret")
    for call in (
        lambda: store.put(source, name),
        lambda: store.get(name, tmp_path / "got"),
        lambda: store.stat(name),
        lambda: store.delete(name),
    ):
        with pytest.raises(UsageError, match="name"):
            call()
    assert not (tmp_path / "x").exists() and source.read_text() == "secret"


@pytest.mark.parametrize("prefix", ["../", "/", "/etc/", "a/../../", "a\\", "./"])
def test_prefixes_that_leave_the_store_are_refused(store, prefix):
    with pytest.raises(UsageError, match="prefix"):
        list(store.list(prefix))


def test_damaged_content_is_refused_and_what_was_here_stays(store, file, tmp_path):
    store.put(file("what the store has"), "x")
    here = file("what was here before", "got")
    with pytest.raises(DamagedError, match="'nbkit verify'"):
        store.get("x", here, sha256="0" * 64)
    assert here.read_text() == "what was here before"
    assert store.stat("x").size == 18, "the store is left as it is"


def test_connections_share_the_content(store, file):
    store.put(file("1"), "x")
    assert store.connect().stat("x").size == 1


@pytest.mark.parametrize("kind", ON_DISK)
def test_listing_hides_what_is_on_its_way(tmp_path, file, kind):
    store = make(kind, tmp_path)
    store.put(file("1"), "a/x")
    folder = tmp_path / "store"
    for stray in (folder / "a" / ".x.123.part", folder / ".incoming" / "host.1.2.part"):
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"half")
    assert [s.name for s in store.list()] == ["a/x"] == [s.name for s in store.list("a/")]


@pytest.mark.parametrize("kind", ON_DISK)
def test_kill_during_put_leaves_the_old_content_or_the_new(tmp_path, file, kind):
    old, new = file(b"o" * 1000, "old"), file(os.urandom(24 << 20), "new")
    make(kind, tmp_path).put(old, "x")
    whole = {sha256_of(old), sha256_of(new)}
    seen = set()
    for attempt in range(8):
        pid = fork(lambda: make(kind, tmp_path).put(new, "x"))
        time.sleep(0.012 * attempt)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = make(kind, tmp_path)
        found.get("x", tmp_path / "got")
        seen.add(sha256_of(tmp_path / "got"))
        assert [s.name for s in found.list()] == ["x"]
    assert seen <= whole and sha256_of(old) in seen
    make(kind, tmp_path).put(new, "x")
    assert make(kind, tmp_path).get("x", tmp_path / "got").checksum == f"sha256:{sha256_of(new)}"


@pytest.mark.parametrize("kind", ON_DISK)
def test_two_processes_that_put_one_name_leave_one_of_the_two(tmp_path, file, kind):
    sources = [file(bytes([i]) * (1 << 20), f"s{i}") for i in range(2)]

    def put_often(source: Path) -> None:
        store = make(kind, tmp_path)
        for _ in range(15):
            try:
                store.put(source, "x")
            except StoreError as error:
                assert error.passing, error  # the other's content was read back: it is told, and may be tried again

    children = [fork(lambda s=s: put_often(s), tmp_path / "log") for s in sources]
    while children:
        if os.path.exists(tmp_path / "store" / "x"):
            make(kind, tmp_path).get("x", tmp_path / "got")
            assert sha256_of(tmp_path / "got") in {sha256_of(s) for s in sources}
        children = [pid for pid in children if not os.waitpid(pid, os.WNOHANG)[0] or _failed(tmp_path)]
    assert not _failed(tmp_path)
    strays = [p for p in (tmp_path / "store").rglob("*.part")]
    assert strays == []


def _failed(tmp_path: Path) -> bool:
    log = tmp_path / "log"
    assert not log.exists() or not log.read_text(), log.read_text()
    return False


def test_threads_of_one_process_that_put_one_name(store, file):
    from concurrent.futures import ThreadPoolExecutor

    sources = [file(bytes([i]) * 300_000, f"s{i}") for i in range(4)]

    def put(source: Path) -> str | None:
        try:
            return store.connect().put(source, "x").checksum
        except StoreError as error:
            assert error.passing, error
            return None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, sources * 3))
    assert store.stat("x").size == 300_000
    assert [s.name for s in store.list()] == ["x"]


@pytest.mark.parametrize("kind", ["memory", "local", "dir"])
def test_partial_upload_is_noticed_and_the_old_content_stays(tmp_path, file, kind, monkeypatch):
    store = make(kind, tmp_path)
    store.put(file("old"), "x")
    whole = store.fs.put_file

    def half(source: str, target: str, **options) -> None:
        path = tmp_path / "half"
        path.write_bytes(Path(source).read_bytes()[:5])
        whole(str(path), target, **options)

    monkeypatch.setattr(store.fs, "put_file", half)
    with pytest.raises(StoreError, match="otherwise than it was sent") as caught:
        store.put(file("new and long"), "x")
    assert caught.value.passing
    monkeypatch.setattr(store.fs, "put_file", whole)
    if kind != "memory":  # an object store's upload is one step; here the fake tore what cannot be torn
        store.get("x", tmp_path / "got")
        assert (tmp_path / "got").read_text() == "old"
        assert not list((tmp_path / "store").rglob("*.part"))
    store.put(file("new and long"), "x")
    store.get("x", tmp_path / "got")
    assert (tmp_path / "got").read_text() == "new and long"


def test_partial_download_is_noticed_and_what_was_here_stays(tmp_path, file, monkeypatch):
    store = make("memory", tmp_path)
    store.put(file(b"x" * 1000), "x")
    info = store.fs.info
    monkeypatch.setattr(store.fs, "info", lambda path: {**info(path), "size": 1500})
    here = file("before", "got")
    with pytest.raises(StoreError, match="ended after 1000 of 1500 bytes") as caught:
        store.get("x", here)
    assert caught.value.passing and here.read_text() == "before"


def test_a_move_that_copies_is_checked_at_its_end(tmp_path, file, monkeypatch):
    from fsspec import AbstractFileSystem
    from fsspec.implementations.local import LocalFileSystem

    monkeypatch.setattr(LocalFileSystem, "mv", AbstractFileSystem.mv)
    monkeypatch.setattr(LocalFileSystem, "copy", lambda self, a, b, **_: Path(b).write_bytes(Path(a).read_bytes()[:3]))
    with pytest.raises(StoreError, match="otherwise than it was sent"):
        make("local", tmp_path).put(file("abcdef"), "x")


def test_swept_are_only_temporary_files_whose_writer_is_dead(tmp_path, file):
    import platform

    incoming = tmp_path / "store" / ".incoming"
    incoming.mkdir(parents=True)
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    names = {"dead": f"{platform.node()}.{dead}.1.part", "alive": f"{platform.node()}.{os.getppid()}.1.part",
             "elsewhere": f"other-host.{dead}.1.part", "old": "other-host.7.1.part"}  # fmt: skip
    for name in names.values():
        (incoming / name).write_bytes(b"half")
    os.utime(incoming / names["old"], (1, 1))
    FolderStore(tmp_path / "store").put(file("1"), "x")
    assert {p.name for p in incoming.iterdir()} == {names["alive"], names["elsewhere"]}


def test_full_disk_under_a_folder_store_is_said(tmp_path, file):
    def put_with_little_room(size: int) -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        source = file(os.urandom(200_000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            FolderStore(tmp_path / "store").put(source, "x")
        except StoreError as error:
            assert "is full" in str(error) and not error.passing, error
        else:
            raise AssertionError("no error")

    FolderStore(tmp_path / "store").put(file("old"), "x")
    for size in (0, 1, 1000, 199_999):
        assert reap(fork(lambda size=size: put_with_little_room(size) if size else None, tmp_path / "log")) == 0, (
            tmp_path / "log"
        ).read_text()
    assert (tmp_path / "store" / "x").read_text() == "old"
    assert not list((tmp_path / "store").rglob("*.part"))


def test_opening(tmp_path):
    (tmp_path / "file").write_text("x")
    assert isinstance(open_store(tmp_path / "new"), FolderStore) and not (tmp_path / "new").exists()
    assert open_store(f"file://{tmp_path}/new").root == tmp_path / "new"
    assert isinstance(open_store("memory://x"), FsspecStore)
    assert open_store("memory://").fs.protocol == "memory"
    store = FolderStore(tmp_path)
    assert open_store(store) is store
    with pytest.raises(UsageError, match="is a file"):
        open_store(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be opened"):
        open_store("nosuch://x/y")


@pytest.mark.parametrize("given", [5, 0, False, b"store", [], {}, object(), FolderStore])
def test_what_is_no_store_is_said(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="store=.* is no store. Give a folder or a URL.*Nothing was written"):
        nbkit.open_session("toy", store=given)
    assert not list(tmp_path.iterdir()), "no other store takes its place"


@pytest.mark.parametrize("given", [5, b"work", "\0", ["work"], object()])
def test_what_is_no_folder_is_said(given, tmp_path):
    with pytest.raises(UsageError, match="folder=.* is no path of a folder.*Nothing was written"):
        nbkit.open_session("toy", store=tmp_path / "store", folder=given)
