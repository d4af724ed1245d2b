"""Names of an item's arrays: what is written comes back under the same names, or is refused before anything is lost."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.arrays import check_arrays, write_arrays

# what zipfile, numpy and Windows treat in a way of their own, and parts that meet often enough to collide
PARTS = ["", "a", "b", "A", ".npy", ".npz", "\0", "\ud800", "/", "\\", "..", "\n", "é", "e\u0301", "x" * 70_000]
NAMES = st.sets(st.lists(st.sampled_from(PARTS), max_size=4).map("".join), max_size=6)


def read_back(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    file = io.BytesIO()
    write_arrays(arrays, file)
    with np.load(io.BytesIO(file.getvalue()), allow_pickle=False) as stored:
        return {name: int(stored[name]) for name in stored}


def is_allowed(names: set[str]) -> bool:
    try:
        check_arrays("k", names)
    except UsageError as error:
        assert str(error).endswith("The item is not recorded.") and len(str(error)) < 800
        return False
    return True


@given(NAMES, st.booleans())
def test_names_that_are_allowed_come_back_each_with_its_array(names, on_windows):
    if not is_allowed(names):
        return
    wanted = {name: number for number, name in enumerate(sorted(names))}
    with pytest.MonkeyPatch.context() as patch:
        if on_windows:
            real = zipfile.os
            patch.setattr(zipfile, "os", SimpleNamespace(**{**vars(real), "sep": "\\"}))
        found = read_back({name: np.array(number) for name, number in wanted.items()})
    expected = {name.replace("\\", "/"): number for name, number in wanted.items()} if on_windows else wanted
    assert found == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x\0y", "x\0z"], "holds a NUL"),
        (["\0"], "holds a NUL"),
        (["\ud800"], "cannot be written as UTF-8"),
        (["x" * 65_532], "has 65,532 bytes, more than the 65,531"),
        (["é" * 32_766], "has 65,532 bytes"),
        (["a", "a.npy"], "numpy.load cannot tell 'a.npy' and 'a'"),
        (["", ".npy"], "numpy.load cannot tell"),
        (["a/b", "a\\b"], "are one array"),
        (["a/b", "a\\b.npy"], "numpy.load cannot tell"),
    ],
)
def test_names_that_would_not_are_refused_in_words(names, words):
    for given_names in (names, names[::-1]):
        with pytest.raises(UsageError, match=words):
            check_arrays("k", given_names)


@pytest.mark.parametrize("names", [["x" * 65_531], ["a", "a.npy.npy"], ["a.npy"], ["a.npz", "a"], ["A", "a"], [""]])
def test_names_that_look_odd_and_are_whole_are_allowed(names):
    check_arrays("k", names)
    wanted = {name: number for number, name in enumerate(names)}
    assert read_back({name: np.array(number) for name, number in wanted.items()}) == wanted


@pytest.fixture
def session(tmp_path):
    session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    yield session
    session._leave()


def failure(session, **results) -> str:
    for item in session.work([{"key": "k"}]):
        with item:
            item.save(**results)
    assert not session.ledger.is_done("k")
    return session.ledger.state.errors["k"]


def test_an_item_whose_arrays_would_be_one_is_not_done_and_nothing_is_written(session, tmp_path):
    assert "holds a NUL" in failure(session, **{"x\0y": np.zeros(2), "x\0z": np.ones(3)})
    assert not list(tmp_path.rglob("k.npz"))


def odd_places(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to(folder / "gone")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "socket"))
    names = {
        "folder": "is a folder", "pipe": "is a pipe", "broken": "is a link to what is not there",
        "socket": "is a socket", "circle": "cannot be looked at", "gone": "does not exist",
        "file/inside": "does not exist",
    }  # fmt: skip
    return {name: (folder / name, words) for name, words in names.items()} | {
        "device": (Path("/dev/zero"), "is a device")
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_what_is_no_file_is_said_as_what_it_is_before_anything_is_written(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    for path, words in odd_places(tmp_path).values():
        assert f"{path}, which {words}" in failure(session, x=np.zeros(2), f=path).replace("\n", " "), path
        session.ledger.state.failures.clear()
        session.ledger.state.errors.clear()
    assert not list(tmp_path.rglob("k.npz"))
