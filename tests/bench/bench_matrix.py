"""The same bits or a refusal in words: a matrix of trainings, stops and SIGKILLs.

Lightning's callbacks, torch's schedulers, their intervals, the ways to optimize, kinds of modules, data and validation:
every way to optimize with every level, every hook with every way to stop in it, and cells at random. Then SIGKILLs at
every hook.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.training.matrix.cells import FACTORS, Cell, allowed, isolated
from tests.runtime.training.matrix.covering import covering, drawn
from tests.runtime.training.matrix.kills import PLACES, kill_at, undisturbed

_OF_THE_STOP = {"hook", "way", "saves"}
_CLOSE = ({"scheduler", "interval"}, {"validation", "option"}, {"validation", "data"}, {"validation", "module"})
_DRAWN = 300


def _belong_together(one: str, other: str) -> bool:
    """Return whether all pairs of the levels of two factors are run; of the others those that come about by chance."""
    pair = {one, other}
    return pair in _CLOSE or ("optimization" in pair and not pair & _OF_THE_STOP)


def cells(quick: bool) -> list[Cell]:
    """Return the cells: pairs of what is trained, hooks by ways, and cells at random."""
    if quick:
        return [Cell(**row) for row in covering(FACTORS, allowed, 16, lambda a, b: False)]
    trained = covering(FACTORS, allowed, 16, _belong_together)
    stops = covering(FACTORS, allowed, 17, lambda a, b: {a, b} <= _OF_THE_STOP)
    return [Cell(**row) for row in [*trained, *stops, *drawn(FACTORS, allowed, 18, _DRAWN)]]


def run(quick: bool) -> list[Row]:
    """Return how many cells were exact, refused and at fault, and the same for the places of the kills."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return [*_matrix(root, cells(quick)), *_kills(root, PLACES[:: 6 if quick else 1])]


def _matrix(root: Path, wanted: list[Cell]) -> list[Row]:
    outcomes, reasons, faults, sessions = Counter[str](), Counter[str](), [], 0
    began = time.perf_counter()
    for number, cell in enumerate(wanted):
        found = isolated(cell, root / f"cell-{number}", seed=number)
        outcomes[found.outcome] += 1
        sessions += found.sessions
        if found.outcome == "refused":
            reasons[_reason(found.words)] += 1
        if found.outcome == "fault":
            faults.append(f"{cell}: {found.words[:200]}")
            print(faults[-1], flush=True)
    seconds, refused = time.perf_counter() - began, outcomes["refused"]
    said = "; ".join(f"{count} {words}" for words, count in reasons.most_common())
    return [
        Row("matrix: cells exact in short sessions", outcomes["exact"], "cells", note=f"{sessions} sessions in "
            f"{seconds:.0f} s; {len(wanted)} cells, {outcomes['not of Lightning']} of them no training of Lightning"),
        Row("matrix: cells refused in words before the first step", refused, "cells", note=said),
        Row("matrix: cells with other bits, a late refusal, a traceback or a hang", len(faults), "cells", target="0",
            met=not faults, note="; ".join(faults[:3])),
    ]  # fmt: skip


def _reason(words: str) -> str:
    return " ".join(words.split()[:9])


def _kills(root: Path, places: tuple[str, ...]) -> list[Row]:
    cell, began = Cell(module="noise", scheduler="CosineAnnealingLR", interval="epoch"), time.perf_counter()
    there = undisturbed(cell, root / "calm")
    order = random.Random(17).sample(places, len(places))
    found = [kill_at(place, cell, there, root / f"place-{i}", seed=i) for i, place in enumerate(order)]
    faults = [f"{one.place}: {one.fault}" for one in found if one.fault]
    kills, wiped, never = (
        sum(f.kills for f in found),
        sum(f.wiped for f in found),
        [f.place for f in found if not f.kills],
    )
    return [
        Row("matrix: SIGKILLs at hooks, within saves and closings", kills, "kills", note=f"at {len(places)} places, "
            f"{wiped} with the machine wiped, {time.perf_counter() - began:.0f} s; never called: {', '.join(never)}"),
        Row("matrix: places after whose kills the end differed", len(faults), "places", target="0", met=not faults,
            note="; ".join(faults[:3])),
    ]  # fmt: skip


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)
