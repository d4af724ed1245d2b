"""The stated contract (docs/exactness.md) and the code say the same: each refusal has a row, each row has a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from nbkit.runtime.training.exact import callbacks
from nbkit.runtime.training.held import scan

ROOT = Path(__file__).parents[4]
ROOM = ROOT / "nbkit/runtime/training"
PAGE = ROOT / "docs/exactness.md"


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of the table of a section."""
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def refusing_files() -> set[str]:
    """Return the files that refuse a training or a checkpoint of it."""
    files = [
        ROOM / "loader.py",
        ROOM / "same_training.py",
        *(ROOM / "exact").glob("*.py"),
        *(ROOM / "held").glob("*.py"),
    ]
    return {str(path.relative_to(ROOM)) for path in files if "raise UsageError(" in path.read_text("utf-8")}


def missing_rows(page: str) -> list[str]:
    """Return what the code refuses and the page does not tell."""
    refused = rows(page, "Refused")
    told = " ".join(row[0] for row in refused)
    names = [*callbacks.REFUSED, *scan.REFUSED]
    files = {row[2].strip("`") for row in refused}
    return [name for name in names if name not in told.replace("`", "")] + sorted(refusing_files() ^ files)


def missing_tests(page: str) -> list[str]:
    """Return the tests that the page names and that do not exist."""
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", page)
    return [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file()
        or name not in {node.name for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
                        if isinstance(node, ast.FunctionDef)}
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def test_every_refusal_of_the_code_has_a_row(page: str) -> None:
    assert missing_rows(page) == []


def test_every_row_has_a_test_that_exists(page: str) -> None:
    tables = rows(page, "Exact") + rows(page, "Refused")
    assert len(tables) > 25
    assert [row for row in tables if not re.fullmatch(r"`tests/\S+::test_\w+`", row[-1])] == []
    assert missing_tests(page) == []


def test_a_page_without_a_row_or_with_a_false_one_is_seen(page: str) -> None:
    lines = page.splitlines(keepends=True)
    without = "".join(line for line in lines if "`held/scan.py`" not in line)
    assert {"an iterator", "held/scan.py"} <= set(missing_rows(without))
    assert missing_tests(page.replace("test_grown_buffers_resume", "test_nothing")) != []


def test_the_readme_leads_here() -> None:
    assert "docs/exactness.md" in (ROOT / "README.md").read_text("utf-8")
