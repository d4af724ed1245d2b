"""The section of docs/measurements.md, made of a file of results and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.results import rows_of
from tests.bench.rows import Row

BEGIN = "<!-- made from tests/bench/results.json by: python -m tests.bench --section tests/bench/results.json -->"
END = "<!-- end of what is made -->"


def write_section(readme: Path, results: Path) -> int:
    """Put the section in its place between the two marks; give the exit code."""
    text = readme.read_text("utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        print(f"{readme} lacks the marks {BEGIN!r} and {END!r}. Nothing was changed.")
        return 2
    made = section(json.loads(results.read_text("utf-8")))
    readme.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", "utf-8")
    print(f"{readme.name}: the section of measurements is made of {results.name}")
    return 0


def section(document: dict[str, Any]) -> str:
    """Return the section's text: the machine, the sums, what was missed, and every row that has something beside it."""
    rows = list(rows_of(document))
    met, missed = sum(row.met is True for row in rows), [row for row in rows if row.met is False]
    seconds = sum(part["seconds"] for part in document["parts"].values())
    size = ", at reduced sizes (`--quick`)" if document["quick"] else ""
    lines = [
        f"By `make bench` on {machine_words(document['machine'])}{size}: {len(rows)} rows in {seconds / 60:.0f} min, "
        f"{met} targets met, {len(missed)} missed.",
    ]
    if missed:
        lines += ["", "Missed:", ""]
        lines += [f"- {row.what}: {row.ours()}{_asked(row)}" for row in missed]
    lines += ["", "<details><summary>All that has an alternative, a limit or a target</summary>", ""]
    for name, part in sorted(document["parts"].items()):
        shown = [row for row in rows_of(document, [name]) if row.alternative or row.limit or row.target]
        if shown:
            load = f"; load {part['load']:g} at its start" if part["load"] >= 1 else ""
            where = f"; on {machine_words(part['machine'])}" if "machine" in part else ""
            lines += [f"**{part['title'].rstrip('.')}** (`{name}`{load}{where})", ""]
            lines += ["| what | ours | alternative | limit | target |", "|---|---|---|---|---|", *map(_line, shown), ""]
    return "\n".join([*lines, "</details>"])


def machine_words(machine: dict[str, Any]) -> str:
    """Describe a machine in one clause."""
    card = machine["accelerator"] or "no accelerator"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {card}; {machine['system']}, "
        f"Python {machine['python']}, torch {machine['torch']}"
    )


def _line(row: Row) -> str:
    target = row.target + {True: ": met", False: ": **missed**", None: ""}[row.met] if row.target else ""
    beside, bound = row.beside(row.alternative, row.alternative_value), row.beside(row.limit, row.limit_value)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (row.what, row.ours(), beside, bound, target)) + " |"


def _asked(row: Row) -> str:
    asked = f", asked {row.target}" if row.target else ""
    return asked + (f" ({row.note})" if row.note else "")
