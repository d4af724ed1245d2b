"""What is foreseen of a cell: that it trains, or which part of it is refused.

A refusal hides whatever else its cell holds. So a part that is refused comes only in a cell of its own, and every other
level is counted where it is trained. That a cell comes to what is foreseen of it is tested by running it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.runtime.training.matrix.cells import FACTORS, Cell, allowed
from tests.runtime.training.matrix.covering import beside, covering, drawn

_CALLBACKS = (
    "BatchSizeFinder", "LearningRateFinder", "Checkpoint", "ModelCheckpoint", "ModelPruning", "OnExceptionCheckpoint",
    "ProgressBar", "RichProgressBar", "SpikeDetection", "StochasticWeightAveraging", "TQDMProgressBar", "Timer",
)  # fmt: skip
_DATAS = (
    "iterable", "list of loaders", "dict of loaders", "combined loader", "own sampler", "own batch sampler",
)  # fmt: skip
_BY_HAND = ("manual", "manual, accumulated", "manual, two of different rhythm")

REFUSED: tuple[dict[str, Any], ...] = (
    *({"callback": name} for name in _CALLBACKS),
    *({"data": name} for name in _DATAS),
)
NOT_OF_LIGHTNING: tuple[dict[str, Any], ...] = (
    *({"optimization": how, "module": "clips"} for how in _BY_HAND),
    *({"optimization": how, "option": "clips values"} for how in _BY_HAND),
    *({"optimization": how, "callback": "GradientAccumulationScheduler"} for how in _BY_HAND),
    *({"optimization": how, "module": "adds a group"} for how in ("two groups", "L-BFGS")),
    {"optimization": "L-BFGS", "module": "skips batches"},  # it needs a loss at each step
    {"optimization": "accumulated", "callback": "GradientAccumulationScheduler"},
    *({"callback": name, "module": "growing buffer"} for name in ("WeightAveraging", "EMAWeightAveraging")),
)
_ADD_GROUPS = ({"module": "adds a group"}, {"callback": "BaseFinetuning"}, {"callback": "BackboneFinetuning"})
# since torch 2.11 these schedules fail at their first step after a group was added
EITHER: tuple[dict[str, Any], ...] = tuple(
    {"scheduler": name, **part} for name in ("SequentialLR", "LRScheduler") for part in _ADD_GROUPS
)


def foreseen(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what a cell, given as its levels, may come to: outcomes of `Found`."""
    for outcomes, parts in (
        (("refused",), REFUSED),
        (("not of Lightning",), NOT_OF_LIGHTNING),
        (("not of Lightning", "exact"), EITHER),
    ):
        if any(part.items() <= row.items() for part in parts):
            return outcomes
    return ("exact",)


def trains(row: dict[str, Any]) -> bool:
    """Return whether a cell, or a part of one, can be and is trained."""
    return allowed(row) and foreseen(row) == ("exact",)


def trained_levels() -> dict[str, tuple[Any, ...]]:
    """Return the levels of each factor without those that are refused wherever they occur."""
    return {name: tuple(level for level in levels if trains({name: level})) for name, levels in FACTORS.items()}


def cells_that_train(seed: int, pairs_of: Callable[[str, str], bool] = lambda a, b: False) -> list[Cell]:
    """Return cells that train, in which every level and every wanted pair occurs that can be trained."""
    return [Cell(**row) for row in covering(trained_levels(), trains, seed, pairs_of)]


def cells_at_random(seed: int, count: int) -> list[Cell]:
    """Return cells that train, drawn at random."""
    return [Cell(**row) for row in drawn(trained_levels(), trains, seed, count)]


def cells_that_do_not(seed: int, parts: tuple[dict[str, Any], ...] | None = None) -> list[Cell]:
    """Return one cell for each part that is not, or not always, trained, beside levels that train."""
    every = (*REFUSED, *NOT_OF_LIGHTNING, *EITHER)
    return [Cell(**row) for row in beside(every if parts is None else parts, FACTORS, trains, seed)]
