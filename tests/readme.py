"""What the README and docs/ hold: their commands, and the toy system's files, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:nbkit|make|python|\.venv/bin/\w+) [^`]+|make \w+)`")


@dataclass(frozen=True)
class Block:
    """Keep one fenced block: its language, its text without the indent, and the paragraph before it."""

    language: str
    text: str
    before: str


def blocks(text: str) -> list[Block]:
    """Return all fenced blocks of a Markdown text."""
    return [
        Block(found[2], textwrap.dedent(found[3]), text[: found.start()].rstrip().rpartition("\n\n")[2])
        for found in _FENCE.finditer(text)
    ]


def commands(text: str) -> list[str]:
    """Return every command of a Markdown text, from its fenced blocks and from its sentences, each once."""
    fenced = [block.text.splitlines() for block in blocks(text) if not block.language]
    shown = [line.split("  #")[0].strip() for lines in fenced for line in lines]
    shown = [line for line in shown if re.match(r"(make|python|\.venv/bin/\w+|nbkit) ", line)]
    without = _FENCE.sub("", text)
    return list(dict.fromkeys([*shown, *_INLINE.findall(without)]))


def as_run_here(command: str) -> list[str]:
    """Return a command's words with this interpreter in the place of the environment's; make's tests through pytest."""
    words = shlex.split(command)
    if words[:2] == ["make", "test"]:
        (tests,) = [word.removeprefix("TESTS=") for word in words[2:]] or [""]
        return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    return [sys.executable if word in (".venv/bin/python", "python") else word for word in words]


@dataclass(frozen=True)
class Recipe:
    """Keep how to add a phase: the files to write, the row to append, the notebook's cells, the commands in order."""

    row: str
    files: dict[str, str]
    cells: list[tuple[str, str, str]]
    commands: list[str]

    @property
    def lines(self) -> int:
        """Lines that a person writes, empty ones left out."""
        texts = [self.row, *self.files.values(), *(text for _, _, text in self.cells)]
        return sum(bool(line.strip()) for text in texts for line in text.splitlines())


def documents(root: Path) -> dict[str, str]:
    """Return the texts that a user reads, by their names: the README, and the pages in docs/."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return {page.relative_to(root).as_posix(): page.read_text("utf-8") for page in pages}


def recipe(root: Path) -> Recipe:
    """Return the recipe of the section 'Add a phase' of docs/changing-the-code.md."""
    section = (
        (root / "docs/changing-the-code.md")
        .read_text("utf-8")
        .partition("## Add a phase\n")[2]
        .partition("</details>")[0]
    )
    row, files, cells, run = "", {}, [], []
    for block in blocks(section):
        name = re.search(r"`([\w/]+\.py)`", block.before)
        if block.language == "toml":
            row = block.text
        elif block.language == "python" and name:
            files[name[1]] = block.text
        elif block.language == "python":
            for found in re.finditer(r"^# %% ([\w-]+)( \[markdown\])?\n(.*?)(?=^# %%|\Z)", block.text, re.M | re.S):
                cells.append((found[1], "markdown" if found[2] else "code", found[3].strip("\n")))
        else:
            run += block.text.splitlines()
    return Recipe(row, files, cells, run)
