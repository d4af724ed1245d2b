"""Tables of any form become rows; anything else is refused in words, and other errors are not changed."""

from __future__ import annotations

import csv
import io
from types import MappingProxyType

import pandas as pd
import pytest

from nbkit.ground.tables import NoTable, rows_in

ROWS = [{"key": "a", "n": 1}, {"key": "b", "n": 2}]


class Polars:
    """The two names of a polars frame that are used; the package is not needed."""

    columns = ("key", "n")

    def to_dict(self) -> dict:
        raise AssertionError("polars has columns here, not rows")

    def to_dicts(self) -> list[dict]:
        return ROWS


@pytest.mark.parametrize(
    "table",
    [ROWS, tuple(ROWS), (row for row in ROWS), map(MappingProxyType, ROWS), pd.DataFrame(ROWS, index=[5, 9]), Polars()],
    ids=lambda table: type(table).__name__,
)
def test_a_table_is_its_rows(table):
    assert [dict(row) for row in rows_in(table)] == ROWS


def test_rows_of_a_file_and_none_are_rows():
    assert rows_in(csv.DictReader(io.StringIO("key,n\na,1\n"))) == [{"key": "a", "n": "1"}]
    assert rows_in([]) == rows_in(pd.DataFrame()) == []


@pytest.mark.parametrize("table", [None, 5, "ab", b"ab", {"key": "a"}, [None], [ROWS], [("key", "a")], pd.Series([1])])
def test_what_is_no_table_is_told(table):
    with pytest.raises(NoTable, match="names with values"):
        rows_in(table)


def test_an_error_in_the_rows_themselves_is_no_fault_of_the_table():
    with pytest.raises(ValueError) as caught:
        rows_in(int("x") for _ in range(2))
    assert not isinstance(caught.value, NoTable)
