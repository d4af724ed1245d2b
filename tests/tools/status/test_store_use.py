"""How much of its place a store takes, as its own listing says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat
from nbkit.runtime.store.retried import Retried
from nbkit.tools.status.store_use import read_use, show_bytes


class Listed:
    url = "memory://x"

    def __init__(self, *stats: Stat, space: tuple[int, int] | None = None) -> None:
        self.stats = stats
        if space is not None:
            self.space = lambda: space

    def list(self, prefix=""):
        return iter(self.stats)


def test_a_folder_is_measured_against_its_disk(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    store = FolderStore(tmp_path / "store")
    for name in ("a/one", "a/two", "b/one"):
        store.put(path, name)
    use = read_use(Retried(store))
    assert (use.files, use.size, use.phases, use.used) == (3, 3000, {"a": 2000, "b": 1000}, 3000)
    assert use.limit > 3000 and "3.0 kB in 3 files" in use.words()


def test_a_folder_on_kaggle_is_measured_against_what_kaggle_keeps(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("NBKIT_KAGGLE_ROOT", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    (tmp_path / "working").mkdir()
    use = read_use(FolderStore(tmp_path / "working" / "nbkit-store"))
    assert use.limit == 20 * 10**9 and "what kaggle keeps" in use.words()
    assert read_use(FolderStore(tmp_path / "input" / "store")).limit == 10**12
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9))
    assert read_use(FolderStore(tmp_path / "working" / "nbkit-store")).limit == 10**9


def test_a_store_that_is_not_there_yet_takes_nothing_and_makes_nothing(tmp_path):
    use = read_use(FolderStore(tmp_path / "a" / "store"))
    assert (use.files, use.size) == (0, 0) and use.limit > 0 and not (tmp_path / "a").exists()


def test_an_account_counts_what_others_keep_in_it_too():
    use = read_use(Listed(Stat("a/x", 5), space=(9_000_000_000, 15_000_000_000)))
    assert use.share == pytest.approx(0.6) and "9.0 GB of 15 GB (60%) used: the Drive account" in use.words()
    assert read_use(Listed(space=(5, 0))).words().endswith("the Drive account has no limit")


def test_where_nobody_tells_a_limit_none_is_shown():
    use = read_use(Listed(Stat("a/x", 5)))
    assert use.limit is None and use.share is None and "its limit is unknown" in use.words()


def test_a_listing_that_breaks_off_is_said():
    class Broken(Listed):
        def list(self, prefix=""):
            yield Stat("a/x", 7)
            raise StoreError("the connection broke")

    use = read_use(Broken())
    assert use.size == 7 and "the connection broke" in use.words()


SIZES = [(999, "999 bytes"), (1000, "1.0 kB"), (999_600, "1.0 MB"), (5e12, "5000 GB")]


@pytest.mark.parametrize(("size", "words"), SIZES)
def test_bytes_in_words(size, words):
    assert show_bytes(size) == words
