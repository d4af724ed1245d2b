"""Progress over items in a log."""

from __future__ import annotations

import pytest

from nbkit.runtime.budget import Budget
from nbkit.runtime.cells.lines import VARIABLE, seconds_between_lines
from nbkit.runtime.items.progress import bar


def test_a_line_for_each_item_where_no_time_lies_between(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "0")
    assert list(bar(iter("abc"), 10, 4, Budget(None), "eeg_windows")) == ["a", "b", "c"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", ")[0] for line in lines] == [f"[nbkit] eeg_windows: {n} of 10 items" for n in (5, 6, 7)]
    list(bar(iter("a"), 10, 4, Budget(60.0), "eeg_windows"))
    assert "time left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [({}, None), ({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, 60.0), ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, None),
     ({VARIABLE: "5"}, 5.0), ({VARIABLE: "often"}, 60.0)],
)  # fmt: skip
def test_who_gets_lines(monkeypatch, variables, seconds):
    for name in (VARIABLE, "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert seconds_between_lines() == seconds
