"""No two items write one name, whatever the store takes for one name; what is refused is refused before the work."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.naming import OutputNames, arrays_name, check_names, file_name, folded
from nbkit.runtime.ledger.ledger import Ledger, Output
from nbkit.runtime.ledger.manifest import read_manifest
from nbkit.runtime.names import is_device
from nbkit.runtime.store.folder import FolderStore

PARTS = ("a", "A", "b", "B", "é", "e\u0301", "a.npz", "b.npz", "B.NPZ", "ß", "ss", "c")
KEYS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("/".join)
FILES = st.sampled_from(("b.npz", "B.npz", "b", "c", "c.npz", "x.fif", "é.npz", "a.npz.npz"))


class StrictFolder:
    """A file system that tells neither case nor ways to write an accent apart."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def clash(self, name: str) -> str | None:
        """Write a file; say what is in its way."""
        path = self._one(name)
        for other, first in self.files.items():
            if other == path or other.startswith(f"{path}/") or path.startswith(f"{other}/"):
                return first
        self.files[path] = name
        return None

    @staticmethod
    def _one(name: str) -> str:
        return "/".join(
            unicodedata.normalize("NFD", unicodedata.normalize("NFD", p).casefold()) for p in name.split("/")
        )


class Items:
    """What `check_names` asks a ledger."""

    def __init__(self, done: dict[str, list[str]]) -> None:
        self.slug, self.here, self.done = "p", {}, {k: [[n, 1, ""] for n in names] for k, names in done.items()}
        self.state = self

    def is_done(self, key: str) -> bool:
        return key in self.done

    def outputs(self, key: str) -> list[Output]:
        return []


@given(st.lists(KEYS, max_size=6, unique=True), st.dictionaries(KEYS, st.lists(FILES, max_size=3), max_size=4))
def test_what_passes_can_be_written_whole_on_the_strictest_file_system(keys, files):
    try:
        names = check_names(read_manifest([{"key": key} for key in keys], "p"), Items({}))
    except UsageError:
        return
    disk = StrictFolder()
    written = [(key, arrays_name("p", key)) for key in keys]
    for key in keys:
        try:
            names.refuse_taken(key, files.get(key, []))
        except UsageError:
            continue
        written += [(key, file_name("p", key, name)) for name in files.get(key, [])]
    for key, name in written:
        assert (other := disk.clash(name)) is None, f"{name} of {key} meets {other}"


@given(st.lists(KEYS, max_size=6, unique=True))
def test_manifests_without_a_clash_are_not_refused(keys):
    disk = StrictFolder()
    if not any(disk.clash(f"{key}{end}") for end in (".npz", "/x") for key in keys):
        check_names(read_manifest([{"key": key} for key in keys], "p"), Items({}))


@given(st.lists(KEYS, min_size=1, max_size=6, unique=True), st.data())
def test_what_earlier_sessions_saved_is_not_written_over(keys, data):
    """A manifest that grows: the first items saved files before the others were there."""
    old = data.draw(st.integers(0, len(keys)))
    disk, done = StrictFolder(), {}
    for key in keys[:old]:
        wanted = [file_name("p", key, name) for name in data.draw(st.lists(FILES, max_size=2, unique=True))]
        done[key] = [name for name in wanted or [arrays_name("p", key)] if disk.clash(name) is None]
    try:
        check_names(read_manifest([{"key": key} for key in keys[data.draw(st.integers(0, old)) :]], "p"), Items(done))
    except UsageError:
        return
    for key in keys[old:]:
        assert disk.clash(arrays_name("p", key)) is None, f"the arrays of {key}, where {done} are"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["sub-1", "Sub-1"], "'sub-1' and 'Sub-1' .case makes no difference"),
        (["caf\u00e9", "cafe\u0301"], "accents may be written in two ways"),
        (["a", "a.npz"], "'a' and 'a.npz' .the folder a.npz/ of the second is the file of the first's arrays"),
        (["A.npz/b", "a"], "'a' and 'A.npz/b'"),
        (["x", "y/con"], "'y/con' is a name that Windows keeps for a device"),
        (["AUX.txt"], "'AUX.txt' is a name that Windows"),
        (["lpt1", "com0.a.b", "NUL/x"], "'lpt1' is a name.*and 2 other keys like it"),
        (["a" * 197], "has 197 bytes, too many for the name of its output, which ends in '.npz'"),
        (["s/" + "é" * 99], "has 200 bytes"),
    ],
)
def test_refused_before_the_work_with_both_names(tmp_path, keys, words):
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    with pytest.raises(UsageError, match=f"(?s){words}.*nothing was begun"):
        next(session.work([{"key": key} for key in keys]))
    session.close()


@pytest.mark.parametrize(
    "keys", [["a", "a/b", "a/b/c"], ["a" * 196], ["é" * 98, "control", "company/com10", "console"]]
)
def test_allowed(keys):
    check_names(read_manifest([{"key": key} for key in keys], "p"), Items({}))


@pytest.mark.parametrize(("saved", "key"), [("b.npz", "a/b"), ("B.npz", "a/b"), ("c", "a/c/d"), ("b", "A/b")])
def test_a_new_item_with_the_name_of_a_file_that_another_saved_is_refused(saved, key):
    with pytest.raises(UsageError, match=f"'a' and '{key}' .the first has saved a file as p/items/a/{saved.lower()}"):
        check_names(read_manifest([{"key": "a"}, {"key": key}], "p"), Items({"a": [f"p/items/a/{saved}"]}))
    check_names(read_manifest([{"key": "a"}, {"key": key}], "p"), Items({"a": ["p/items/a/other.npz"]}))


def test_items_of_old_stores_go_on(tmp_path):
    """Keys that are refused now and were done before stay done."""
    ledger = Ledger(tmp_path / "work", "p", "old", FolderStore(tmp_path / "store"))
    keys = ["aux", "sub", "Sub", "a", "a.npz"]
    for key in keys:
        ledger.done(key, [])
        ledger.stored(key)
    ledger.close()
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    assert list(session.work([{"key": key} for key in keys])) == [] and session.close()["complete"]
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    with pytest.raises(UsageError, match="'sub' and 'SUB'"):
        next(session.work([{"key": key} for key in [*keys, "SUB"]]))
    session.close()


def test_every_shard_checks_the_whole_manifest(tmp_path):
    rows = [{"key": "sub-1"}, {"key": "SUB-1"}]
    parts = [read_manifest(rows).shard(f"{i}/7").keys for i in range(1, 8)]
    assert max(map(len, parts)) == 1, "the two are done by two sessions"
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work", shard="1/7")
    with pytest.raises(UsageError, match="sub-1.*SUB-1"):
        next(session.work(rows))
    session.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b.npz", "is that of the arrays of item a/b"),
        ("B.NPZ", "is that of the arrays of item a/b"),
        ("b", "is that of a folder with the outputs of item a/b"),
        ("c", "a folder with the outputs of item a/c/d"),
        ("Nul.txt", "is a name that Windows keeps"),
    ],
)
def test_a_file_with_another_items_name_fails_its_item_and_overwrites_nothing(tmp_path, capfd, name, words):
    (tmp_path / name).write_text("the file")
    session = nbkit.open_session("p", tmp_path / "store", folder=tmp_path / "work")
    for item in session.work([{"key": "a/b"}, {"key": "a/c/d"}, {"key": "a"}]):
        with item:
            item.save(x=[1]) if "/" in item.key else item.save(x=[1], file=tmp_path / name)
    summary = session.close()
    assert (summary["done"], summary["left"]) == (2, 1)
    assert words in session.ledger.state.errors["a"] and words in "".join(capfd.readouterr())
    stored = {path.relative_to(tmp_path / "store" / "p" / "items").as_posix()
              for path in Path(tmp_path / "store" / "p" / "items").rglob("*.*")}  # fmt: skip
    assert stored == {"a/b.npz", "a/c/d.npz"}


def test_two_files_that_differ_in_case_only(tmp_path):
    names = OutputNames("p", ["a"])
    with pytest.raises(UsageError, match="the files x.fif and X.FIF; .* where case makes no difference"):
        names.refuse_taken("a", ["x.fif", "X.FIF"])


@given(st.lists(KEYS | st.text("aé\u0301Åİıſ", min_size=1), max_size=5))
def test_folding_many_is_folding_each(names):
    assert folded(names) == [folded([name])[0] for name in names]


def test_the_strict_folder_can_fail():
    disk = StrictFolder()
    assert disk.clash("p/a") is None and disk.clash("p/A") == "p/a" and disk.clash("p/a/b") == "p/a"
    assert is_device("nul") and not is_device("null")
