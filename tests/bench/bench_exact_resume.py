"""Bit-exact resume: every cell of the matrix, each run killed six times against one that was not.

A cell is exact where the SHA-256 of weights, optimizer state, schedulers and logged metrics agrees.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row
from tests.runtime.training.training_support import (
    ACCUMULATE,
    AUGMENT,
    PLACES,
    VALIDATION,
    WORKERS,
    Cell,
    killed,
    uninterrupted,
)

KILLS = 6


def run(quick: bool) -> list[Row]:
    """Return a row for every number of workers and place of kill and checkpoint; each stands for eight cells."""
    rows, references = [], {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for place, workers in itertools.product(PLACES, WORKERS):
            exact, kills, cells, steps, twice = 0, 0, 0, 0, 0
            wrong, began = [], time.perf_counter()
            for number, rest in enumerate(itertools.product(VALIDATION, AUGMENT, ACCUMULATE)):
                if quick and number % 3:
                    continue
                cell = Cell(workers, rest[0], rest[1], place, rest[2])
                if cell.reference not in references:
                    references[cell.reference] = uninterrupted(root / f"reference-{len(references)}", cell)
                name = f"{place}-{workers}-{number}".replace(" ", "-")
                found, done, events = killed(root / name, cell, KILLS, random.Random(name))
                same = found == references[cell.reference] and done >= KILLS
                trained = [event["step"] for event in events if event["e"] == "step"]
                exact, kills, cells = exact + same, kills + done, cells + 1
                steps, twice = steps + len(trained), twice + len(trained) - len(set(trained))
                if not same:
                    why = "other bits" if found != references[cell.reference] else f"exact, but over after {done} kills"
                    wrong.append(f"{cell}: {why}")
            note = f"{kills} kills, {twice} of {steps} steps done twice, {time.perf_counter() - began:.0f} s"
            rows.append(
                Row(
                    f"exact cells: workers {workers}, {place}",
                    exact,
                    "cells",
                    target=f"{cells} of {cells}",
                    met=exact == cells,
                    note="; ".join([note, *wrong]),
                )
            )
            print(f"{rows[-1].what}: {exact} of {cells} ({rows[-1].note})", flush=True)
    return rows


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)
