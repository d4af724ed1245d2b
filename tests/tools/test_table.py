"""Tables of text: aligned, whole, and plain wherever they are printed."""

from __future__ import annotations

from nbkit.tools.table import text_table


def test_columns_are_aligned_and_lines_end_with_their_text():
    text = text_table([("a", "10"), ("long name", "7")], ("phase", "files"))
    assert text.splitlines() == ["phase      files", "a          10", "long name  7"]


def test_numbers_stand_at_the_right_and_an_indent_before_each_line():
    text = text_table([("a", "10"), ("b", "7")], numbers=(1,), indent=2)
    assert text.splitlines() == ["  a  10", "  b   7"]


def test_no_terminal_changes_it(monkeypatch):
    rows = [("[red]markup[/red] :smile: 42", "x" * 500), ("b", "y")]
    plain = text_table(rows)
    assert plain.splitlines()[0] == "[red]markup[/red] :smile: 42  " + "x" * 500, "no markup, no wrapping"
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "20", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert text_table(rows) == plain and "\x1b" not in plain


def test_without_rows_there_is_the_header_alone():
    assert text_table([], ("a", "b")) == "a  b" and text_table([]) == ""


def test_wide_letters_are_two_columns_wide():
    assert text_table([("脳波", "x"), ("eeg1", "y")]).splitlines() == ["脳波  x", "eeg1  y"]
