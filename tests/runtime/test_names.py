"""No name that passes can leave its folder; what people really use passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_name, check_prefix, check_slug

GOOD = ("a", "sub-001/run-04", "sub-001_ses-1_eeg.fif", "é/ü", "1.0+x@y,z=3", "a" * 200, "名前/録音", "-", "_")
BAD = {
    "": "empty", "/a": "absolute", "a/": "'/'|segment", "a//b": "segment", "..": "segment", "../a": "segment",
    "a/./b": "segment", ".a": "dot", "a.": "dot", "a /b": "space", "a\nb": "control", "a\x00": "control",
    "a\u202eb": "control", "a\\b": "holds", "c:a": "holds", "a*": "holds", "a|b": "holds", "\udcff": "UTF-8",
    "x" * 201: "201 bytes", "é" * 101: "202 bytes", "/".join("ab" * 400): "more than 900",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_allowed(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_refused_with_the_reason_and_what_is_allowed(name):
    with pytest.raises(UsageError, match=f"({BAD[name]}).*[\\s\\S]*Allowed are") as caught:
        check_name(name, "the key")
    assert str(caught.value).startswith("The key ")


@pytest.mark.parametrize("name", [None, 3, b"a", ["a"]])
def test_refused_is_what_is_no_text(name):
    with pytest.raises(UsageError, match="not text"):
        check_name(name)


@given(st.text(st.characters(codec="utf-8"), max_size=300) | st.text("./\\ab \n", max_size=12))
def test_what_passes_stays_inside_and_is_one_path(name):
    try:
        check_name(name)
    except UsageError:
        return
    path = Path("/stores/folder") / name
    assert os.path.normpath(path) == str(path), "the path is what the name says"
    assert str(path).startswith("/stores/folder/") and path.relative_to("/stores/folder").as_posix() == name
    assert all(0 < len(part.encode()) <= 200 and not part.startswith(".") for part in name.split("/"))


@given(st.text("ab/-.", max_size=8))
def test_a_prefix_is_the_beginning_of_an_allowed_name(text):
    try:
        check_name(text)
    except UsageError:
        return
    for end in range(len(text)):
        prefix = text[:end]
        if not prefix.endswith("."):  # one more letter makes a name of it
            assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("slug", ["a", "eeg_windows", "labram2", "a" * 64])
def test_slugs(slug):
    assert check_slug(slug) == slug


@pytest.mark.parametrize("slug", ["con", "prn", "aux", "nul", "com0", "com9", "lpt1"])
def test_slugs_that_windows_keeps_for_a_device(slug):
    with pytest.raises(UsageError, match="keeps for a device"):
        check_slug(slug)
    assert check_slug(f"{slug}s") == f"{slug}s"


@pytest.mark.parametrize("slug", ["", "A", "1a", "a-b", "a b", "a/b", "../a", "a\n", "é", "a" * 65, None, 3])
def test_refused_slugs(slug):
    with pytest.raises(UsageError, match="is not valid. Allowed"):
        check_slug(slug)
