"""The generator of the matrix: every allowed pair occurs, nothing forbidden does, the libraries' names are levels."""

from __future__ import annotations

import itertools

import torch
from lightning.pytorch import callbacks as of_lightning

from tests.runtime.training.matrix.cells import FACTORS, Cell, allowed
from tests.runtime.training.matrix.covering import covering, drawn
from tests.runtime.training.matrix.factors import CALLBACKS, HOOKS, SCHEDULERS, unknown_arguments
from tests.runtime.training.matrix.foreseen import (
    EITHER,
    NOT_OF_LIGHTNING,
    REFUSED,
    cells_at_random,
    cells_that_do_not,
    cells_that_train,
    foreseen,
    trained_levels,
    trains,
)
from tests.runtime.training.matrix.states import first_difference

LEVELS = {"a": range(4), "b": "xyz", "c": (True, False), "d": range(5)}


def _allowed(row: dict) -> bool:
    return not (row.get("a") == 0 and row.get("b") == "x") and not (row.get("c") is True and row.get("d") == 4)


def test_every_allowed_pair_occurs_and_no_forbidden_one() -> None:
    rows = covering(LEVELS, _allowed, seed=3)
    assert all(_allowed(row) and row.keys() == LEVELS.keys() for row in rows)
    for one, other in itertools.combinations(LEVELS, 2):
        for x, y in itertools.product(LEVELS[one], LEVELS[other]):
            pair = {one: x, other: y}
            assert any(pair.items() <= row.items() for row in rows) == _allowed(pair), pair
    assert len(rows) < 30, "the product has 120"
    assert rows == covering(LEVELS, _allowed, seed=3)


def test_without_pairs_every_level_still_occurs() -> None:
    rows = covering(FACTORS, allowed, seed=1, pairs_of=lambda a, b: False)
    for name, levels in FACTORS.items():
        assert {row[name] for row in rows} == set(levels)
    assert all(allowed(row) for row in [*rows, *drawn(FACTORS, allowed, seed=1, count=50)])


def test_every_level_and_wanted_pair_occurs_in_a_cell_that_trains() -> None:
    def wanted(one: str, other: str) -> bool:
        return {one, other} == {"optimization", "callback"}

    levels, few = trained_levels(), cells_that_train(16)
    assert len(few) < 75
    for cells in (few, cells_that_train(16, wanted)):
        assert {foreseen(vars(cell)) for cell in cells} == {("exact",)}
        for name in FACTORS:
            assert {getattr(cell, name) for cell in cells} == {*levels[name]}
    for how, callback in itertools.product(levels["optimization"], levels["callback"]):
        there = any((cell.optimization, cell.callback) == (how, callback) for cell in cells)
        assert there == trains({"optimization": how, "callback": callback}), (how, callback)


def test_what_is_refused_comes_in_a_cell_of_its_own() -> None:
    refused = {name: {level for part in REFUSED for key, level in part.items() if key == name} for name in FACTORS}
    assert {name: {*FACTORS[name]} - {*levels} for name, levels in trained_levels().items()} == refused
    parts = (*REFUSED, *NOT_OF_LIGHTNING, *EITHER)
    for part, cell in zip(parts, cells_that_do_not(17, parts), strict=True):
        assert part.items() <= vars(cell).items()
        assert [one for one in parts if one.items() <= vars(cell).items()] == [part]
    assert all(trains(vars(cell)) for cell in cells_at_random(18, 100))


def test_the_levels_are_the_libraries_own_names() -> None:
    assert {*CALLBACKS} - {"none"} == {*of_lightning.__all__}
    assert {*SCHEDULERS} - {"none", "SWALR"} == {*torch.optim.lr_scheduler.__all__}
    assert {"callback.on_train_epoch_start", "module.on_before_zero_grad", "callback.on_save_checkpoint"} <= {*HOOKS}
    assert len(HOOKS) == len({*HOOKS}) > 60
    assert not unknown_arguments(), "give these their arguments in factors.py"


def test_a_difference_is_found_and_named_by_its_place() -> None:
    one = {"w": [torch.zeros(3), 1.0], "n": {"a": 1}}
    other = {"w": [torch.zeros(3), 1.0], "n": {"a": 1}}
    assert first_difference(one, other) is None
    other["w"][0][1] = 1e-45
    assert (found := first_difference(one, other)) and found.startswith(".w[0]")
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == ".b is only here"
    assert first_difference([1.0, float("nan")], [1.0, float("nan")]) is None
    assert Cell().words() == "Cell()" and Cell(module="noise").words() == "Cell(module='noise')"
