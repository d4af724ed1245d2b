"""The item loop: a fault that every item would meet ends the loop, and later cells say why nothing was made."""

from __future__ import annotations

import asyncio

import pytest

import nbkit
from nbkit.runtime.errors import UsageError

ROWS = [{"key": f"k{i}"} for i in range(6)]


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one():
        sessions.append(nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work"))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session._leave()


def test_a_missing_extra_ends_the_loop_with_the_way_to_install_it_and_is_no_items_failure(opened):
    for _ in range(4):  # an item that fails three times is given up
        with pytest.raises(UsageError, match="(?s)Item k0 was not done.*nbkit install decoding"):
            for item in opened().work(ROWS):
                with item:
                    raise ModuleNotFoundError("No module named 'braindecode'", name="braindecode")
    session = opened()
    for item in session.work(ROWS):
        with item:
            item.save(x=[1])
    assert session.close()["done"] == 6


class Untold(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Odd(Exception):
    def __str__(self):
        return 5


class Panic(BaseException):
    """As extensions in Rust raise it."""


ENDS = {
    "exit": SystemExit(1),
    "panic": Panic("index out of bounds"),
    "cancelled": asyncio.CancelledError(),
    "untold": Untold(),
    "odd": Odd(),
    "half a character": ValueError("cannot read sub\udcff.edf"),
    "orders to the terminal": ValueError("\x1b]0;owned\x07\x1b[2J\rhidden"),
    "a password": OSError("cannot open ftp://me:Q7zPass@host/a.edf?sig=Q7zToken, or ftp://x"),
}


@pytest.mark.parametrize("name", ENDS)
def test_however_an_item_ends_it_alone_has_failed(opened, tmp_path, capfd, name):
    session = opened()
    for item in session.work(ROWS):
        with item:
            if item.key == "k1":
                raise ENDS[name]
            item.save(x=[1])
    summary = session.close()
    assert (summary["done"], summary["left"], summary["exit"]) == (5, 1, 3)
    assert session.ledger.state.failures == {"k1": 1}
    said = "".join(capfd.readouterr()).replace("\r", "", 50)
    assert f"item k1 failed: {type(ENDS[name]).__name__}" in said
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "\x1b" not in said and "Q7z" not in said and b"Q7z" not in kept


@pytest.mark.parametrize("where", [480, 495, 505, 1980, 1995, 2005, 4000])
@pytest.mark.parametrize("after", [0, 470, 490, 1960, 1990, 5000])
def test_a_password_is_hidden_wherever_a_long_message_is_cut(opened, tmp_path, capfd, where, after):
    session = opened()
    for item in session.work(ROWS[:1]):
        with item:
            raise OSError("x" * where + " ftp://me:Q7zPassword@host/a.edf " + "y" * after)
    session.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "Q7zP" not in "".join(capfd.readouterr()) and b"Q7zP" not in kept


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_an_item_that_a_person_interrupts_has_not_failed(opened, stop):
    session = opened()
    with pytest.raises(stop):
        for item in session.work(ROWS):
            with item:
                raise stop
    assert not session.ledger.state.failures


def test_two_arrays_that_numpy_reads_as_one_are_refused(opened):
    session = opened()
    for item in session.work(ROWS[:1]):
        with item:
            item.save(**{"a": [1], "a.npy": [2]})
    assert "'a.npy' and 'a' of item k0 apart" in session.ledger.state.errors["k0"]


@pytest.mark.parametrize("reason", [404, ValueError("no EEG"), None.__class__, "x" * 10**6, "\x1b[2J"])
def test_whatever_is_given_as_a_reason_the_item_is_done(opened, reason):
    for _ in range(2):
        session, did = opened(), []
        for item in session.work(ROWS[:1]):
            with item:
                did.append(item.key)
                item.skip(reason)
        assert session.close()["done"] == 1
    assert did == []


@pytest.mark.parametrize("settings", [{("a", 1): 2}, {"a": 1, 2: "b"}, "deep"])
def test_settings_that_no_later_session_could_read_are_refused(opened, settings):
    if settings == "deep":
        settings = {}
        for _ in range(200):
            settings = {"in": settings}
    with pytest.raises(UsageError, match="settings= of toy cannot be recorded"):
        next(iter(opened().work(ROWS, settings=settings)))


def test_where_all_items_failed_the_cells_after_them_say_why(opened):
    for item in opened().work(ROWS[:2]):
        with item:
            raise ValueError("no channel named Cz")
    with pytest.raises(UsageError, match="(?s)all of 2 items that were begun failed. k0: ValueError: no channel named"):
        opened().inputs("toy")
