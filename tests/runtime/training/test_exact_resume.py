"""A training killed six times is the training that was never killed, bit for bit.

The cells here cover every pair of the matrix's values; the whole matrix is in tests/bench/bench_exact_resume.py.
"""

from __future__ import annotations

import itertools
import random
from functools import cache
from pathlib import Path

import pytest

from tests.runtime.training.training_support import (
    ACCUMULATE,
    AUGMENT,
    PLACES,
    VALIDATION,
    WORKERS,
    Cell,
    checkpoint_of,
    digest,
    killed,
    run_child,
    train_tiny,
    uninterrupted,
)

pytestmark = pytest.mark.kill

KILLS = 6
COVERING = [
    Cell(0, False, True, "mid-epoch", 1),
    Cell(0, True, False, "last batch", 4),
    Cell(0, False, True, "once an epoch", 4),
    Cell(2, True, False, "mid-epoch", 4),
    Cell(2, False, True, "last batch", 1),
    Cell(2, True, False, "once an epoch", 1),
    Cell("changed", True, True, "mid-epoch", 4),
    Cell("changed", False, False, "last batch", 4),
    Cell("changed", True, True, "once an epoch", 1),
    Cell("changed", False, False, "mid-epoch", 1),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    @cache
    def digest_of(cell: Cell) -> str:
        return uninterrupted(tmp_path_factory.mktemp("reference"), cell)

    return lambda cell: digest_of(cell.reference)


def test_cells_cover_every_pair() -> None:
    factors = (WORKERS, VALIDATION, AUGMENT, PLACES, ACCUMULATE)
    rows = [(c.workers, c.validation, c.augment, c.place, c.accumulate) for c in COVERING]
    missing = [
        (a, b)
        for i, j in itertools.combinations(range(len(factors)), 2)
        for a, b in itertools.product(factors[i], factors[j])
        if not any(row[i] == a and row[j] == b for row in rows)
    ]
    assert not missing


@pytest.mark.parametrize("cell", COVERING, ids=str)
def test_killed_six_times_gives_the_same_bits(cell: Cell, reference, tmp_path: Path) -> None:
    found, kills, events = killed(tmp_path, cell, KILLS, random.Random(str(cell)))
    assert kills >= KILLS, "the storm must really have killed"
    steps = [event["step"] for event in events if event["e"] == "step"]
    assert len(steps) > len(set(steps)) or cell.place != "once an epoch", "some work must have been lost and done again"
    assert found == reference(cell)


def test_digest_sees_one_changed_bit(tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=3, save_every=None)
    checkpoint = checkpoint_of(tmp_path)
    before = digest(checkpoint)
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg"].view(-1)[0] += 1e-7
    assert digest(checkpoint) != before


def test_longer_training_grown_from_a_shorter_one_is_the_longer_one(tmp_path: Path) -> None:
    """max_steps may grow: 7 (inside an epoch), then 18 (on its end), then 30, against 30 at once."""
    options = {"validation": True, "augment": True, "save_every": None}
    for steps in (7, 18, 30):
        run_child(train_tiny, tmp_path / "grown", max_steps=steps, **options)
    run_child(train_tiny, tmp_path / "once", max_steps=30, **options)
    assert digest(checkpoint_of(tmp_path / "grown")) == digest(checkpoint_of(tmp_path / "once"))
