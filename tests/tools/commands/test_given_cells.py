"""Cells from a file: what is written is what the notebook gets, and another form is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands.given_cells import read_cells

FILE = """
# %% data
import math

x = math.pi
# %% read [markdown]
You should see *x*.
#%%
# a comment is code here
y = 1
# %% commented [markdown]
# ## A heading
#
# and text
"""


def test_cells_have_names_kinds_and_text(tmp_path):
    (tmp_path / "cells.py").write_text("\ufeff" + FILE, "utf-8")
    assert read_cells(tmp_path / "cells.py") == [
        ("data", "code", "import math\n\nx = math.pi"),
        ("read", "markdown", "You should see *x*."),
        ("cell-3", "code", "# a comment is code here\ny = 1"),
        ("commented", "markdown", "## A heading\n\nand text"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = 1\n# %% a\n", "Line 1 .* stands before the first cell"),
        ("# %% a\n# %% a\n", "Line 2 .* names a cell 'a'"),
        ("# %% open\n", "names a cell 'open'"),
        ("# %% two words\n", "Line 1 .* is no '# %% name'"),
        ("\n\n", "has no cell"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_another_form_is_refused_with_its_line(tmp_path, content, words):
    path = tmp_path / "cells.py"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=f"{words}.*Nothing was created"):
        read_cells(path, ("open",))


@given(st.binary(max_size=200))
def test_any_bytes_are_cells_or_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any-cells.py"
    path.write_bytes(content)
    try:
        assert read_cells(path)
    except UsageError as error:
        assert "Nothing was created" in str(error)
