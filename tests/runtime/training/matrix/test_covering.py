"""The generator of the matrix: every allowed pair occurs, nothing forbidden does, the libraries' names are levels."""

from __future__ import annotations

import itertools

import torch
from lightning.pytorch import callbacks as of_lightning

from tests.runtime.training.matrix.cells import FACTORS, Cell, allowed
from tests.runtime.training.matrix.covering import covering, drawn
from tests.runtime.training.matrix.factors import CALLBACKS, HOOKS, SCHEDULERS, unknown_arguments
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
