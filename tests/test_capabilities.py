"""The pages of capabilities: every way in that a row names is there, and so is its test.

A row is: capability, way in, what it was shown on, test. The way in is in groups, with ";" between them. A group names
notebooks, and then parameters that each of these has, or commands and their options, or modules and what is in them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from nbkit.tools.commands import cli
from nbkit.tools.literals import evaluate
from nbkit.tools.parameters import notebook_parameters
from nbkit.tools.results.listing import Run, read_plan
from tests.test_connected import code_of

HEADER = ("capability", "way in", "shown on", "test")
WITHOUT = ("missing", "refused: ")  # how a row begins that has no way in
NOTEBOOK = re.compile(r"\d\d_\w+")
PARAMETER = re.compile(r"([A-Z][A-Z0-9_]*)(?: = (.+))?")
COMMAND = re.compile(r"nbkit( [a-z]+)+")
MAKE = re.compile(r"make ([a-z-]+)")
OPTION = re.compile(r"--[a-z][a-z-]*")
DOTTED = re.compile(r"(nbkit|tests)(\.\w+)+")
TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(test_\w+))?")


@dataclass(frozen=True)
class Row:
    """Keep a row of a table: its cells, and page, section and number for a message."""

    place: str
    capability: str
    way: str
    shown: str
    test: str


def rows_of(page: str, text: str) -> Iterator[Row]:
    """Yield the rows of all tables of a page; raises for a row or a header of another form."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if not line.startswith("|"):
            continue
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if cells == HEADER or set("".join(cells)) <= set("-: "):
            continue
        place = f"{page}:{number} ({section})"
        if len(cells) != len(HEADER):
            raise ValueError(f"{place}: {len(cells)} cells, not {len(HEADER)}: {line}")
        yield Row(place, *cells)


@cache
def module_at(root: Path, name: str) -> ast.Module | None:
    """Return the parsed module or package of a dotted name; None if it is not there. Nothing is imported."""
    path = root.joinpath(*name.split("."))
    files = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return ast.parse(files[0].read_text("utf-8")) if files else None


def members(root: Path, module: str, name: str) -> set[str] | None:
    """Return the names in a class or function of a module, those of its bases too; None if the module lacks it."""
    for made in (found := module_at(root, module)) and found.body or []:
        if isinstance(made, ast.ImportFrom) and any((one.asname or one.name) == name for one in made.names):
            original = next(one.name for one in made.names if (one.asname or one.name) == name)
            return members(root, made.module or "", original)
        if isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef) and made.name == name:
            return set()
        if isinstance(made, ast.Assign | ast.AnnAssign):
            targets = made.targets if isinstance(made, ast.Assign) else [made.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return set()
        if isinstance(made, ast.ClassDef) and made.name == name:
            of = {
                one.target.id
                for one in made.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            }
            of |= {one.name for one in made.body if isinstance(one, ast.FunctionDef)}
            bases = [base.id for base in made.bases if isinstance(base, ast.Name)]
            return of.union(*(members(root, module, base) or set() for base in bases))
    return None


def import_fault(name: str, root: Path) -> str:
    """Return what is wrong with a dotted name of a module, of something in it, or of a field or method of that."""
    parts = name.split(".")
    count = max((count for count in range(1, len(parts) + 1) if module_at(root, ".".join(parts[:count]))), default=0)
    module, rest = ".".join(parts[:count]), parts[count:]
    if not rest:
        return ""
    of = members(root, module, rest[0])
    if of is None:
        return f"{name}: {module or 'nothing'} has no {rest[0]}"
    inner = ".".join(rest[1:])
    return f"{name}: {rest[0]} has no {inner}" if inner and inner not in of else ""


def way_faults(way: str, root: Path, help_of: Callable[[str], str]) -> Iterator[str]:
    """Yield what is wrong with a cell that says how a user gets a capability."""
    if way.startswith(WITHOUT):
        if way == "refused: ":
            yield "refused without a reason"
        return
    if "`" not in way:
        yield f"no way in, and neither missing nor refused: {way!r}"
    for group in way.split(";"):
        notebooks: list[Path] = []
        command = ""
        for token in re.findall(r"`([^`]+)`", group):
            if NOTEBOOK.fullmatch(token):
                notebooks.append(root / "notebooks" / f"{token}.ipynb")
                if not notebooks[-1].is_file():
                    yield f"no notebook {token}"
            elif COMMAND.fullmatch(token):
                command = token.removeprefix("nbkit ")
                if not help_of(command):
                    yield f"no command {token}"
            elif found := MAKE.fullmatch(token):
                if not re.search(rf"^{found[1]}:", (root / "Makefile").read_text("utf-8"), re.MULTILINE):
                    yield f"make has no target {found[1]}"
            elif OPTION.fullmatch(token):
                if not command or not re.search(rf"{token}\b(?!-)", help_of(command)):
                    yield f"no option {token} of the command {command!r}"
            elif DOTTED.fullmatch(token):
                if fault := import_fault(token, root):
                    yield fault
            elif found := PARAMETER.fullmatch(token):
                yield from parameter_faults(found[1], found[2], notebooks)
            else:
                yield f"`{token}` is no notebook, parameter, command, option or name"


def parameter_faults(name: str, value: str | None, notebooks: list[Path]) -> Iterator[str]:
    """Yield what is wrong with a parameter of each of some notebooks."""
    if not notebooks:
        yield f"{name} belongs to no notebook"
    for path in notebooks:
        if path.is_file() and name not in notebook_parameters(path):
            yield f"{path.stem} has no parameter {name}"
    if value is None:
        return
    try:
        given = evaluate(ast.parse(value, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        yield f"{name} = {value} is no value: {error}"
        return
    if name == "PRESET":
        yield from (f"{path.stem} has no preset {given}" for path in notebooks if not has_preset(path, given))


def has_preset(notebook: Path, preset: str) -> bool:
    """Return whether some settings that a notebook imports have a preset of that name."""
    root = notebook.parents[1]
    imports = [node for node in ast.walk(ast.parse(code_of(notebook))) if isinstance(node, ast.ImportFrom)]
    settings = [(node.module or "", one.name) for node in imports for one in node.names]
    return any(preset in (members(root, *of) or set()) for of in settings if of[1].endswith("Settings"))


def test_faults(cell: str, root: Path) -> Iterator[str]:
    """Yield what is wrong with the tests that a row names."""
    named = re.findall(r"`([^`]+)`", cell)
    if not named:
        yield "no test"
    for token in named:
        found = TEST.fullmatch(token)
        if not found or not (root / found[1]).is_file():
            yield f"no test file {token}"
            continue
        made = ast.parse((root / found[1]).read_text("utf-8")).body
        known = [one.name for one in made if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
        if not known or (found[2] and found[2] not in known):
            yield f"no test {token}"


test_faults.__test__ = False  # type: ignore[attr-defined]


def row_faults(row: Row, root: Path, help_of: Callable[[str], str]) -> list[str]:
    """Return what is wrong with a row; empty where it holds."""
    faults = list(way_faults(row.way, root, help_of))
    if not row.capability or not row.shown:
        faults.append("an empty cell")
    if not (row.test == "-" and row.way.startswith(WITHOUT)):
        faults += test_faults(row.test, root)
    return [f"{row.place}: {row.capability}: {fault}" for fault in faults]


@pytest.fixture
def help_of(capsys) -> Callable[[str], str]:
    """Return a function that gives the help of a command; empty for none."""

    @cache
    def ask(command: str) -> str:
        code = cli.run([*command.split(), "--help"])
        said = capsys.readouterr().out
        return said if code == 0 else ""

    return ask


@pytest.fixture
def pages(root) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted((root / "docs").glob("capabilities*.md"))}


def test_every_row_names_what_is_there(pages, root, help_of):
    rows = [row for name, text in pages.items() for row in rows_of(name, text)]
    assert [fault for row in rows for fault in row_faults(row, root, help_of)] == []


def test_every_section_is_one_table_of_some_rows(pages):
    assert pages
    for name, text in pages.items():
        for section in text.split("\n## ")[1:]:
            title = section.splitlines()[0]
            heads = [line for line in section.splitlines() if line.startswith("|") and "capability" in line]
            assert [tuple(cell.strip() for cell in head.strip("|").split("|")) for head in heads] == [HEADER], title
            assert len(list(rows_of(name, section))) >= 5, title


FAULTY = {
    "a notebook": ("`72_decoding_contest`", "no notebook 72_decoding_contest"),
    "a parameter": ("`72_decoding_compare`: `OWN`, `OWNED`", "72_decoding_compare has no parameter OWNED"),
    "one of two notebooks": ("`72_decoding_compare`, `70_decoding_frozen`: `OWN`", "70_decoding_frozen has no"),
    "a parameter of nothing": ("`72_decoding_compare`; `OWN`", "OWN belongs to no notebook"),
    "a preset": ('`72_decoding_compare`: `PRESET = "huge"`', "72_decoding_compare has no preset huge"),
    "a value": ("`72_decoding_compare`: `OWN = [x]`", "is no value"),
    "a command": ("`nbkit fly`", "no command nbkit fly"),
    "a command within": ("`nbkit login fly`", "no command nbkit login fly"),
    "a target": ("`make coffee`", "make has no target coffee"),
    "an option": ("`nbkit run`, `--fast`", "no option --fast"),
    "a part of an option": ("`nbkit run`, `--accept`", "no option --accept"),
    "a module": ("`nbkit.neuro.flying`", "nbkit.neuro has no flying"),
    "a name": ("`nbkit.neuro.decoding.configs.Flying`", "has no Flying"),
    "a field": ("`nbkit.neuro.decoding.configs.LoRAConfig.rank`", "has no rank"),
    "another form": ("`SOMETHING else`", "is no notebook"),
    "no way": ("by hand", "no way in"),
    "no reason": ("refused: ", "refused without a reason"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_row_that_is_wrong_is_found(name, root, help_of):
    way, words = FAULTY[name]
    test = "`tests/test_capabilities.py`"
    (fault,) = row_faults(Row("page:1", "it", way, "eegmat", test), root, help_of)
    assert words in fault


def test_rows_that_hold_are_left_alone(root, help_of):
    test = "`tests/test_capabilities.py::test_rows_that_hold_are_left_alone`, `tests/test_house.py`"
    ways = [
        '`72_decoding_compare`, `71_decoding_finetune`: `FOLD = "1/4"`, `TARGET`; `nbkit run`, `--fresh`',
        "`nbkit login drive`; `make demo`",
        "`tests.gpu`; `nbkit.neuro.decoding.configs.LoRAConfig.r`", "refused: there is none",
    ]  # fmt: skip
    assert [fault for way in ways for fault in row_faults(Row("", "it", way, "eegmat", test), root, help_of)] == []
    assert row_faults(Row("", "it", "missing", "nothing", "-"), root, help_of) == []


def test_a_missing_test_is_found(root, help_of):
    cells = ("-", "`tests/test_nothing.py`", "`tests/test_house.py::test_nothing`", "`tests/readme.py`", "by hand")
    for cell in cells:
        assert row_faults(Row("", "it", "`nbkit check`", "eegmat", cell), root, help_of), cell
    with pytest.raises(ValueError, match="3 cells, not 4"):
        list(rows_of("page", "| a | b | c |\n"))


def stale_rows(rows: list[Row], runs: list[Run]) -> list[str]:
    """Return rows that say "made-up data only" although the list of results does on recordings what they name.

    A row is done by a run if a group of its way in names the run's notebook, and the run sets each parameter that the
    group names, to its value where one is given. What a run does not set is no proof.
    """
    faults = []
    for row in (row for row in rows if row.shown.startswith("made-up data only")):
        for group in row.way.split(";"):
            tokens = re.findall(r"`([^`]+)`", group)
            asked = [found for token in tokens if (found := PARAMETER.fullmatch(token))]
            for run in runs:
                given = run.parameters
                fits = asked and all(
                    one[1] in given
                    and (one[2] is None or evaluate(ast.parse(one[2], mode="eval").body) == given[one[1]])
                    for one in asked
                )
                if run.notebook in tokens and fits and not {one[1] for one in asked} <= HOW:
                    faults.append(f"{row.place}: {row.capability}: {run.name} of manifests/results.toml shows it")
    return faults


HOW = {
    "SETTINGS",
    "SFREQ",
    "VALIDATE_EVERY",
    "PRESET",
    "TASK",
    "LOGGER",
}  # say by themselves nothing about a capability


def test_no_row_is_behind_what_the_page_of_results_shows(pages, root):
    runs = list(read_plan(root / "manifests/results.toml").runs)
    assert stale_rows([row for name, text in pages.items() for row in rows_of(name, text)], runs) == []
    old = Row("page:1", "it", '`72_decoding_compare`: `OWN`, `FOLD = "1/4"`', "made-up data only", "-")
    other = Row("page:2", "it", '`72_decoding_compare`: `OWN`, `FOLD = "2/4"`', "made-up data only", "-")
    assert len(stale_rows([old, other], runs)) == 1


def test_every_score_in_a_row_is_on_a_page_that_says_how_it_was_made(pages, root):
    sources = [path.read_text("utf-8") for path in (root / "docs").glob("*.md") if path.name not in pages]
    written = set(re.findall(r"\d+\.\d+", " ".join(sources)))
    known = {f"{float(number):.{digits}f}" for number in written for digits in (2, 3)}
    rows = [row for name, text in pages.items() for row in rows_of(name, text)]
    assert [(row.place, number) for row in rows for number in re.findall(r"\d+\.\d{2,}", row.shown)
            if number not in known] == []  # fmt: skip
