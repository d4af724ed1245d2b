"""Notebook files of any origin: one form after reading, or a refusal in words."""

from __future__ import annotations

import itertools
import json

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.notebooks import read_notebook
from nbkit.tools.parameters import notebook_parameters

CELL = {"cell_type": "code", "source": ["A = 3\n", "B = 4"], "metadata": {"tags": ["parameters"]}}
SPEC = {"name": "python3", "display_name": "Python 3"}


def write(path, cells, encoding="utf-8", **others):
    path.write_bytes(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 4, **others}).encode(encoding))
    return path


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")
METADATA = (
    {}, {"kernelspec": SPEC}, {"kernelspec": {**SPEC, "language": "python"}, "colab": {"provenance": []}},
    {"language_info": {"name": "python", "version": "3.9"}}, {"accelerator": "GPU", "kernelspec": None},
)  # fmt: skip
CELLS = (
    [CELL], [{**CELL, "id": "a b"}], [{**CELL, "source": "A = 3\nB = 4"}], [CELL, {"cell_type": "code", "source": ""}],
    [{**CELL, "id": "x"}, {**CELL, "id": "x", "metadata": {}}], [{"cell_type": "markdown", "source": "é"}, CELL],
)  # fmt: skip


@pytest.mark.parametrize(("encoding", "metadata", "cells"), [*itertools.product(ENCODINGS, METADATA, CELLS)])
def test_notebooks_of_any_origin_have_one_form_after_reading(tmp_path, encoding, metadata, cells):
    import nbformat

    path = write(tmp_path / "x.ipynb", cells, encoding, metadata=metadata)
    content = read_notebook(path)
    nbformat.validate(nbformat.from_dict(content))  # ids, outputs and metadata as Jupyter's newest format asks for
    assert content["metadata"]["language_info"]["name"] == content["metadata"]["kernelspec"]["language"] == "python"
    assert {"colab", "accelerator"} & set(metadata) <= set(content["metadata"])
    assert read_notebook(path) == content  # the same ids in every session
    assert notebook_parameters(path) == {"A": 3, "B": 4}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[1, 2]", b'{"cells": 3}', b"not json", b"\xff\xfe\x00", b'{"cells": [3]}', b'{"cells": [{}]}',
        b'{"cells": [{"cell_type": "code"}]}', b'{"cells": [{"cell_type": "code", "source": 3}]}',
        b'{"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 3}}]}', b'{"cells": [], "metadata": 3}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "x.ipynb").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.ipynb is not a Jupyter notebook"):
        read_notebook(tmp_path / "x.ipynb")


def test_an_old_format_another_language_and_two_parameters_cells_are_refused_in_words(tmp_path):
    old = tmp_path / "x.ipynb"
    old.write_text('{"worksheets": [{"cells": []}], "nbformat": 3}')
    with pytest.raises(UsageError, match="older than Jupyter's 4. Open it in Jupyter and save it again"):
        read_notebook(old)
    for metadata in ({"kernelspec": {"name": "ir", "language": "R"}}, {"language_info": {"name": "R"}}):
        with pytest.raises(UsageError, match="is a notebook in R; nbkit runs notebooks in Python"):
            read_notebook(write(tmp_path / "x.ipynb", [CELL], metadata=metadata))
    with pytest.raises(UsageError, match="2 cells tagged 'parameters'"):
        read_notebook(write(tmp_path / "x.ipynb", [CELL, CELL]))


def test_what_an_earlier_run_injected_is_the_value_that_counts(tmp_path):
    """Papermill replaces that cell, so a second run of an executed copy lost the first one's values."""
    injected = {"cell_type": "code", "source": "# Parameters\nB = 7\n", "metadata": {"tags": ["injected-parameters"]}}
    path = write(tmp_path / "x.ipynb", [CELL, injected, {"cell_type": "code", "source": "C = A"}])
    assert notebook_parameters(path) == {"A": 3, "B": 7}
    assert [cell["source"] for cell in read_notebook(path)["cells"]][1:] == ["C = A"]
