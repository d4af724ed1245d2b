"""``python -m tests.bench``: run every measurement and print one table.

Each file ``tests/bench/bench_<name>.py`` has ``def run(quick: bool) -> list[Row]``; its docstring's first line titles
its part of the table. A file that fails is reported and the others still run. Exit code 1 where a file failed or a
target was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.bench.rows import Row

FOLDER = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Run the measurements that were asked for; give the exit code."""
    names = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look rather than a figure")
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    options = parser.parse_args(arguments)

    parts, failed = {}, []
    for name in options.only or names:
        began = time.perf_counter()
        try:
            module = importlib.import_module(f"tests.bench.bench_{name}")
            rows = module.run(quick=options.quick)
        except Exception:
            failed.append(name)
            print(f"\n## {name}: failed\n{traceback.format_exc()}", flush=True)
            continue
        parts[name] = rows
        title = (module.__doc__ or name).strip().splitlines()[0]
        print(f"\n## {name}: {title} ({time.perf_counter() - began:.0f} s)\n{table(rows)}", flush=True)

    rows = [row for part in parts.values() for row in part]
    missed = [row.what for row in rows if row.met is False]
    if options.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "quick": options.quick}
        found = {name: [asdict(row) for row in part] for name, part in parts.items()}
        document = {"machine": machine, "failed": failed, "parts": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"\n{len(rows)} rows; {sum(row.met is True for row in rows)} targets met, {len(missed)} missed", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if missed or failed else 0


def table(rows: list[Row]) -> str:
    """Lay rows out as a table: what, ours, the alternative, the target, met."""
    header = ("what", "ours", "alternative", "target", "met", "note")
    lines = [header, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    laid = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    laid.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(laid)


def _cells(row: Row) -> tuple[str, ...]:
    ours = f"{row.value:.4g} {row.unit}"
    other = "" if row.alternative_value is None else f"{row.alternative_value:.4g} {row.unit} "
    beside = f"{other}({row.alternative})" if row.alternative else ""
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return row.what, ours, beside, row.target, met, row.note


if __name__ == "__main__":
    sys.exit(main())
