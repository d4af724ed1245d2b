"""``python -m tests.gpu``: every check and figure that needs a card, written into docs/gpu.md.

Each slice runs in a process of its own for at most eight minutes. What is done is kept in a file beside the page, so
that a session which ends early is continued by the next call. A slice whose packages are missing is named with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from tests.bench.rows import Row
from tests.gpu.presets import installed
from tests.gpu.slices import Slice, all_slices

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
MINUTES = 8.0  # of a slice
NO_CARD = 2  # exit code


def main(arguments: list[str] | None = None) -> int:
    """Run the slices that were asked for; return the exit code."""
    slices = {one.name: one for one in all_slices()}
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the slices, and what is missing for them")
    parser.add_argument("--only", action="append", metavar="WORDS", help="slices whose names hold these words")
    parser.add_argument("--again", action="store_true", help="measure again what is in the file already")
    parser.add_argument("--dry", action="store_true", help="without a card: each slice up to its first call of CUDA")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that one slice may take at most")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes; its rows go beside it")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)  # in the process of one slice
    options = parser.parse_args(arguments)
    if options.rows:
        return _measure(slices[options.only[0]], options.rows)
    wanted = [one for one in slices.values() if not options.only or any(word in one.name for word in options.only)]
    if options.list:
        print("\n".join(f"{one.name}{_left_out(one) and f' ({_left_out(one)})'}" for one in wanted))
        return 0
    if options.dry:
        return _run_dry(wanted)
    if not torch.cuda.is_available():
        print(
            f"There is no card: torch {torch.__version__} finds no CUDA device. {len(wanted)} slices were not measured "
            f"and {options.page.name} was not written. Run this on a machine with a GPU."
        )
        return NO_CARD
    card = torch.cuda.get_device_name()
    kept = options.page.with_suffix(".json")
    found = json.loads(kept.read_text("utf-8")) if kept.is_file() and not options.again else {}
    if found.get("card") != card:
        found = {"card": card, "torch": torch.__version__, "slices": {}}
    for one in wanted:
        if one.name in found["slices"] and not found["slices"][one.name]["why"]:
            continue
        found["slices"][one.name] = _in_its_own_process(one, 60 * options.minutes)
        kept.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        options.page.write_text(page_of(found), "utf-8")
        print(lines_of(one.name, found["slices"][one.name]), flush=True)
    rows = [Row(**row) for part in found["slices"].values() for row in part["rows"]]
    failed = [name for name, part in found["slices"].items() if part["why"].startswith("failed")]
    missed = [row.what for row in rows if row.met is False]
    print(f"{len(rows)} rows on one {card} in {options.page}; missed: {missed or 'none'}; failed: {failed or 'none'}")
    return int(bool(missed or failed))


def _left_out(one: Slice) -> str:
    """Return why a slice cannot run here; "" if it can."""
    missing = [name for name in one.needs if not installed(name)]
    if missing:
        return f"left out: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if torch.cuda.is_available() and torch.cuda.device_count() < one.cards:
        return f"left out: it needs {one.cards} cards, and there is {torch.cuda.device_count()}"
    return ""


def _run_dry(wanted: list[Slice]) -> int:
    """Run slices up to their first call of CUDA, and the page's writer with made-up figures; return the exit code."""
    from tests.gpu.dry import dry_part

    found: dict = {"card": "no card: every figure is made up", "torch": torch.__version__, "slices": {}}
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, PAGE.name)
        for one in wanted:
            why = _left_out(one)
            part = {"rows": [], "why": why, "seconds": 0.0} if why else dry_part(one)
            found["slices"][one.name] = part
            page.write_text(page_of(found), "utf-8")
            said = part["why"] or f"{part['seconds']} s to {part['rows'][0]['note']}"
            print(f"{one.name}: {said}", flush=True)
        lines = len(page.read_text("utf-8").splitlines()) if wanted else 0
    failed = [name for name, part in found["slices"].items() if part["why"].startswith("failed")]
    reached = sum(bool(part["rows"]) for part in found["slices"].values())
    print(
        f"{reached} of {len(wanted)} slices came to their first call of CUDA; {len(wanted) - reached - len(failed)} "
        f"left out; failed: {failed or 'none'}. A page of {lines} lines with made-up figures was written and thrown "
        f"away: {PAGE.name} needs a card."
    )
    return int(bool(failed))


def _in_its_own_process(one: Slice, seconds: float) -> dict:
    began, why = time.monotonic(), _left_out(one)
    rows: list[dict] = []
    if not why:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "rows.json")
            command = [sys.executable, "-m", "tests.gpu", "--only", one.name, "--rows", str(target)]
            try:
                done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, env={**os.environ})
                last = (done.stderr.strip().splitlines() or ["no word"])[-1]
                why = f"failed: {last}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                why = f"failed: it did not end within {seconds / 60:.0f} minutes"
            rows = json.loads(target.read_text("utf-8")) if target.is_file() else []
    return {"rows": rows, "why": why, "seconds": round(time.monotonic() - began, 1)}


def _measure(one: Slice, target: Path) -> int:
    target.write_text(json.dumps([asdict(row) for row in one.rows()]), "utf-8")
    return 0


def lines_of(name: str, part: dict) -> str:
    """Return a slice as a table of Markdown, or why there is none."""
    head = f"## {name}\n"
    if part["why"]:
        head += f"\n{part['why']}\n"
    if not part["rows"]:
        return head
    table = ["| what | ours | beside it | asked | |", "|---|---|---|---|---|"]
    for row in (Row(**row) for row in part["rows"]):
        met = "" if row.met is None else "met" if row.met else "**missed**"
        beside = row.beside(row.alternative, row.alternative_value)
        table.append(f"| {row.what} | {row.ours()} | {beside} | {row.target} {met} | {row.note} |")
    return head + "\n" + "\n".join(table) + "\n"


def page_of(found: dict) -> str:
    """Return the whole page."""
    parts = "\n".join(lines_of(name, part) for name, part in found["slices"].items())
    return (
        f"# On a card: {found['card']}\n\nWritten by `make gpu` on one {found['card']} with torch {found['torch']}. "
        f"Every figure stands beside its alternative from the same run, where there is one.\n\n{parts}"
    )


if __name__ == "__main__":
    sys.exit(main())
