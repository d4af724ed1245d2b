"""Words with times from TextGrid files: both forms, odd encodings, silence, and bytes that are no TextGrid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.neuro.tribe.readers.textgrid import read_textgrid

ROWS = [(0.0, 0.5, "sp"), (0.5, 0.9, "Alice"), (0.9, 1.0, ""), (1.0, 1.4, 'said ""no""'), (1.4, 2.0, "item [3]: 7")]
WORDS = [("Alice", 0.5, 0.9), ('said "no"', 1.0, 1.4), ("item [3]: 7", 1.4, 2.0)]


def long_form(rows=ROWS, name="word"):
    """A TextGrid as Praat writes it, with a tier of points before the words."""
    parts = [f'intervals [{i + 1}]:\n xmin = {a}\n xmax = {b}\n text = "{t}"' for i, (a, b, t) in enumerate(rows)]
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <exists>\nsize = 2\n'
    head += "item []:\n"
    points = 'item [1]:\n class = "TextTier"\n name = "p"\n xmin = 0\n xmax = 2\n points: size = 1\n points [1]:\n'
    points += ' number = 1.5\n mark = "x"\n'
    tier = (
        f'item [2]:\n class = "IntervalTier"\n name = "{name}"\n xmin = 0\n xmax = 2\n intervals: size = {len(rows)}\n'
    )
    return head + points + tier + "\n".join(parts) + "\n"


def short_form(rows=ROWS):
    lines = [
        'File type = "ooTextFile"',
        '"TextGrid"',
        "",
        "0",
        "2",
        "<exists>",
        "1",
        '"IntervalTier"',
        '"Words"',
        "0",
        "2",
    ]
    lines += [str(len(rows)), *(f'{a}\n{b}\n"{t}"' for a, b, t in rows)]
    return "\n".join(lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", [long_form, short_form])
def test_both_forms_give_the_words(tmp_path, form, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(form().encode(encoding))
    assert [tuple(word) for word in read_textgrid(path)] == WORDS


def test_the_start_is_subtracted_and_words_before_it_are_left_out(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(long_form())
    words = read_textgrid(path, start_s=0.95)
    assert [word.text for word in words] == ['said "no"', "item [3]: 7"]
    assert words[0].start_s == pytest.approx(0.05)


def test_another_tier_is_named_with_those_that_exist(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(long_form(name="phone"))
    with pytest.raises(ValueError, match=r"no interval tier 'word'; it has phone"):
        read_textgrid(path)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 700), noise=st.binary(max_size=12), where=st.integers(0, 700))
def test_damaged_bytes_give_words_or_an_error_that_names_the_file(tmp_path_factory, cut, noise, where):
    whole = long_form().encode()
    path = tmp_path_factory.mktemp("grid") / "a.TextGrid"
    path.write_bytes(whole[:where] + noise + whole[where:][: max(0, len(whole) - where - cut)])
    try:
        words = read_textgrid(path)
    except ValueError as error:
        assert "a.TextGrid" in str(error)
    else:
        assert all(word.end_s > 0 for word in words)
