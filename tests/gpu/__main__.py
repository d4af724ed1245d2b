"""``python -m tests.gpu``: every check and figure that needs a card, written into docs/gpu.md.

Each slice runs in a process of its own for at most eight minutes. What is done is kept in a file beside the page, so
that a session which ends early is continued by the next call. A slice whose packages are missing is named with them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from tests.bench.rows import Row
from tests.gpu import memory
from tests.gpu.presets import PRESETS, decoding_presets
from tests.gpu.processes import in_turns, left_out
from tests.gpu.slices import Slice, all_slices
from tests.gpu.steps import STEPS

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
MINUTES = 8.0  # of a slice
NO_CARD = 2  # exit code
LARGE = 60e9  # bytes of a card on which several slices that measure no time may run at once


def main(arguments: list[str] | None = None) -> int:
    """Run the slices that were asked for; return the exit code."""
    slices = {one.name: one for one in all_slices()}
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the slices, and what is missing for them")
    parser.add_argument("--only", action="append", metavar="WORDS", help="slices whose names hold these words")
    parser.add_argument("--again", action="store_true", help="measure again what is in the file already")
    parser.add_argument("--dry", action="store_true", help="without a card: each slice up to its first call of CUDA")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that one slice may take at most")
    parser.add_argument("--estimate", action="store_true", help="without a card: keep the presets' estimated memory")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each preset")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes; its rows go beside it")
    options = parser.parse_args(arguments)
    words = options.only or [""]  # in their order, so that a lent card does first what matters most
    wanted = list({name: one for word in words for name, one in slices.items() if word in name}.values())
    if options.list:
        print("\n".join(f"{one.name}{left_out(one) and f' ({left_out(one)})'}" for one in wanted))
        return 0
    if options.dry:
        return _run_dry(wanted)
    kept = options.page.with_suffix(".json")
    found = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    if options.estimate:
        return _estimate(found, kept, words)
    if not torch.cuda.is_available():
        print(
            f"There is no card: torch {torch.__version__} finds no CUDA device. {len(wanted)} slices were not measured "
            f"and {options.page.name} was not written. Run this on a machine with a GPU."
        )
        return NO_CARD
    card = torch.cuda.get_device_name()
    estimates = found.get("estimates", {})
    if options.again or found.get("card") != card:
        found = {"card": card, "torch": torch.__version__, "estimates": estimates, "slices": {}}
    left = [one for one in wanted if one.name not in found["slices"] or found["slices"][one.name]["why"]]
    known = {"estimates": estimates, "steps": options.steps}
    large = torch.cuda.get_device_properties(0).total_memory > LARGE and (os.cpu_count() or 1) >= 16
    for name, part in in_turns(left, 60 * options.minutes, known, 4 if large else 1):
        found["slices"][name] = part
        kept.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        options.page.write_text(page_of(found), "utf-8")
        print(lines_of(name, part), flush=True)
    rows = [Row(**row) for part in found["slices"].values() for row in part["rows"]]
    failed = [name for name, part in found["slices"].items() if part["why"].startswith("failed")]
    missed = [row.what for row in rows if row.met is False]
    print(f"{len(rows)} rows on one {card} in {options.page}; missed: {missed or 'none'}; failed: {failed or 'none'}")
    return int(bool(missed or failed))


def _run_dry(wanted: list[Slice]) -> int:
    """Run slices up to their first call of CUDA, and the page's writer with made-up figures; return the exit code."""
    from tests.gpu.dry import dry_part

    found: dict = {"card": "no card: every figure is made up", "torch": torch.__version__, "slices": {}}
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, PAGE.name)
        for one in wanted:
            why = left_out(one)
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


def _estimate(found: dict, kept: Path, words: list[str]) -> int:
    """Keep what each preset needs, which takes minutes of a processor and no card; return the exit code."""
    estimates = found.setdefault("estimates", {})
    for preset in [*PRESETS, *decoding_presets()]:
        if any(word in f"preset {preset.name}" for word in words):
            estimates[preset.name] = round(memory.need_of(preset).gb, 3)
            kept.write_text(json.dumps({"slices": {}, **found}, indent=1) + "\n", "utf-8")
            print(f"{preset.name}: {estimates[preset.name]} GB", flush=True)
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
    left = [one.name for one in all_slices() if one.name not in found["slices"]]
    if left:
        parts += f"\n## Not measured yet\n\n{len(left)} of {len(all_slices())} slices: {', '.join(left)}.\n"
    return (
        f"# On a card: {found['card']}\n\nWritten by `make gpu` on one {found['card']} with torch {found['torch']}. "
        f"Every figure stands beside its alternative from the same run, where there is one.\n\n{parts}"
    )


if __name__ == "__main__":
    sys.exit(main())
