"""Lengths of time, read and shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.errors import UsageError
from nbkit.runtime.words import parse_duration, printable, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("9h", 32400), ("20s", 20), ("1h30m", 5400), ("1h 30 min", 5400), ("90", 90), (90.0, 90), (3, 3), ("1.5h", 5400),
     ("90MIN", 5400), ("2d", 172800), ("250ms", 0.25), (" 5 s ", 5), (None, None), ("1h2m3s", 3723)],
)  # fmt: skip
def test_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "h", "9x", "-5", "-5s", "0", 0, -1.0, "1h30", "30 1h", "nan", "inf", math.nan, math.inf, True,
             "9 hours", "1:30", "1h,30m", b"9h", 10**400, -(10**400), "1" * 400 + "h"],
)  # fmt: skip
def test_refused_with_the_forms_that_are_allowed(text):
    with pytest.raises(UsageError, match="Write '9h'"):
        parse_duration(text)


@given(st.floats(0.01, 1e7))
def test_shown_is_within_a_part_in_twenty_of_the_length(seconds):
    words = show_duration(seconds)
    total, unit = 0.0, {"s": 1, "min": 60, "h": 3600, "days": 86400}
    parts = words.split()
    for number, name in zip(parts[::2], parts[1::2], strict=True):
        total += float(number) * unit[name]
    assert abs(total - seconds) <= max(0.051, 0.05 * seconds), words
    assert "60 s" not in words and "60 min" not in words


def test_shown_without_limit_and_past():
    assert show_duration(None) == show_duration(math.inf) == "no limit"
    assert show_duration(-65) == "-1 min 5 s"


@pytest.mark.parametrize("text", ["plain", "a\nb\tc", "é…"])
def test_what_can_be_shown_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", ["\x1b[2J", "\udcff", "a\x00b", "\r", "\u202e"])
def test_what_orders_about_or_cannot_be_encoded_is_escaped(text):
    shown = printable(text)
    assert shown.isprintable() and shown.encode() and "\\" in shown
