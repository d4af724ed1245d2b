"""The item loop: a fault that every item would meet ends the loop, and later cells say why nothing was made."""

from __future__ import annotations

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


def test_where_all_items_failed_the_cells_after_them_say_why(opened):
    for item in opened().work(ROWS[:2]):
        with item:
            raise ValueError("no channel named Cz")
    with pytest.raises(UsageError, match="(?s)all of 2 items that were begun failed. k0: ValueError: no channel named"):
        opened().inputs("toy")
