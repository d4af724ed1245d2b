"""``python -m tests.bench``: run every measurement and print one table.

Each file ``tests/bench/bench_<name>.py`` has ``def run(quick: bool) -> list[Row]``; its docstring's first line titles
its part of the table. Each runs in a process of its own, so that none disturbs another; one that fails or does not end
is a row that says so, and the others still run. Exit code 1 where a file failed or a target was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.bench.results import Results, rows_of
from tests.bench.rows import Row
from tests.bench.section import write_section

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "measurements.md"
MINUTES = 30  # of one file


def main(arguments: list[str] | None = None) -> int:
    """Run the measurements that were asked for; give the exit code."""
    names = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look rather than a figure")
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here, file by file")
    parser.add_argument("--resume", action="store_true", help="keep what the --json file has of this machine and size")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that one file may take at most")
    parser.add_argument(
        "--section", type=Path, metavar="FILE", help="measure nothing: make the section of docs/measurements.md of it"
    )
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)  # in the process of one file
    options = parser.parse_args(arguments)
    if options.section:
        return write_section(PAGE, options.section)
    if options.rows:
        return _measure(options.only[0], options.quick, options.rows)

    results = Results(options.json, options.quick, options.resume)
    wanted = options.only or names
    for name in wanted:
        if name in results:
            print(f"\n## {name}: measured before", flush=True)
            continue
        part = _in_its_own_process(name, options.quick, 60 * options.minutes)
        results.add(name, **part)
        shown = table([Row(**row) for row in part["rows"]]) if not part["error"] else f"failed: {part['error']}"
        print(f"\n## {name}: {part['title']} ({part['seconds']:.0f} s)\n{shown}", flush=True)

    rows = list(rows_of(results.document, wanted))
    missed = [row.what for row in rows if row.met is False]
    took = sum(results.document["parts"][name]["seconds"] for name in wanted)
    print(f"\n{len(rows)} rows; {sum(row.met is True for row in rows)} targets met, {len(missed)} missed; {took:.0f} s")
    for what in missed:
        print(f"missed: {what}")
    return 1 if missed else 0


def _in_its_own_process(name: str, quick: bool, seconds: float) -> dict[str, object]:
    """Return one file's part of the results."""
    load, began, error = os.getloadavg()[0], time.perf_counter(), ""
    title = (FOLDER / f"bench_{name}.py").read_text("utf-8").split('"""')[1].strip().splitlines()[0]
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="nbkit-bench-") as folder:
        path = Path(folder, "rows.json")
        command = [sys.executable, "-m", "tests.bench", "--only", name, "--rows", str(path)] + ["--quick"] * quick
        try:
            done = subprocess.run(command, cwd=FOLDER.parents[1], stderr=subprocess.PIPE, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            error = f"not through after {seconds / 60:g} min"
        else:
            if path.is_file():
                found = json.loads(path.read_text("utf-8"))
            else:
                print(done.stderr[-3000:], file=sys.stderr)
                error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    spent = time.perf_counter() - began
    return {"title": title, "seconds": spent, "rows": found, "error": error, "load": load}


def _measure(name: str, quick: bool, path: Path) -> int:
    rows = importlib.import_module(f"tests.bench.bench_{name}").run(quick=quick)
    path.write_text(json.dumps([asdict(row) for row in rows]), "utf-8")
    return 0


def table(rows: list[Row]) -> str:
    """Lay rows out as a table: what, ours, the alternative, the physical limit, the target, met."""
    header = ("what", "ours", "alternative", "limit", "target", "met", "note")
    lines = [header, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    laid = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    laid.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(laid)


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row.met]
    beside, bound = row.beside(row.alternative, row.alternative_value), row.beside(row.limit, row.limit_value)
    return row.what, row.ours(), beside, bound, row.target, met, row.note


if __name__ == "__main__":
    sys.exit(main())
