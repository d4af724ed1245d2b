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
from tests.runtime.training.matrix.cells import Cell, isolated
from tests.runtime.training.matrix.foreseen import (
    cells_at_random,
    cells_that_do_not,
    cells_that_train,
    foreseen,
)
from tests.runtime.training.matrix.kills import PLACES, kill_at, undisturbed

_OF_THE_STOP = {"hook", "way", "saves"}
_CLOSE = ({"scheduler", "interval"}, {"validation", "option"}, {"validation", "data"}, {"validation", "module"})
_DRAWN, _STOPS = 150, 3


def _belong_together(one: str, other: str) -> bool:
    """Return whether all pairs of the levels of two factors are run; of the others those that come about by chance."""
    pair = {one, other}
    return pair in _CLOSE or ("optimization" in pair and not pair & _OF_THE_STOP)


def cells(quick: bool) -> list[Cell]:
    """Return the cells: pairs of what is trained, hooks by ways, and cells at random."""
    if quick:
        return [*cells_that_train(16), *cells_that_do_not(19)]
    trained = cells_that_train(16, _belong_together)
    stops = cells_that_train(17, lambda a, b: {a, b} <= _OF_THE_STOP)
    return [*trained, *stops, *cells_at_random(18, _DRAWN), *cells_that_do_not(19)]


def run(quick: bool) -> list[Row]:
    """Return how many cells were exact, refused and at fault, and the same for the places of the kills."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return [*_matrix(root, cells(quick)), *_kills(root, PLACES[:: 6 if quick else 1])]


def _matrix(root: Path, wanted: list[Cell]) -> list[Row]:
    outcomes, reasons, sessions = Counter[str](), Counter[str](), 0
    faults, other = [], []
    began = time.perf_counter()
    for number, cell in enumerate(wanted):
        found = isolated(cell, root / f"cell-{number}", seed=number, stops=_STOPS)
        outcomes[found.outcome] += 1
        sessions += found.sessions
        if found.outcome == "refused":
            reasons[_reason(found.words)] += 1
        if found.outcome not in (awaited := foreseen(vars(cell))):
            told = faults if found.outcome == "fault" else other
            told.append(f"{cell}: {found.outcome}, not {' or '.join(awaited)}: {found.words[:200]}")
            print(told[-1], flush=True)
    seconds, refused = time.perf_counter() - began, outcomes["refused"]
    said = "; ".join(f"{count} {words}" for words, count in reasons.most_common())
    return [
        Row("matrix: cells exact in short sessions", outcomes["exact"], "cells", note=f"{sessions} sessions in "
            f"{seconds:.0f} s; {len(wanted)} cells, {outcomes['not of Lightning']} of them no training of Lightning"),
        Row("matrix: cells refused in words before the first step", refused, "cells", note=said),
        Row("matrix: cells with other bits, a late refusal, a traceback or a hang", len(faults), "cells", target="0",
            met=not faults, note="; ".join(faults[:3])),
        Row("matrix: cells that were not trained, or were, unlike foreseen", len(other), "cells", target="0",
            met=not other, note="; ".join(other[:3])),
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
