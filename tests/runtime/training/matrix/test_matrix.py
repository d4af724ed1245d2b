"""The same bits or a refusal in words, for a covering part of the matrix.

Here every level occurs: each of Lightning's callbacks, each of torch's schedulers, each hook, each kind of module and
data. The pairs, and triples at random, are in tests/bench/bench_matrix.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.runtime.training import loop_state
from tests.runtime.training.matrix.cells import FACTORS, Cell, allowed, isolated
from tests.runtime.training.matrix.covering import covering

pytestmark = pytest.mark.train

# what is held in attributes, which no checkpoint keeps yet
HELD = {
    "curriculum", "generator", "numpy generator", "attribute", "list until the epoch's end", "running metric",
    "minmax metric", "generator in the dataset", "class attribute", "nested objects",
}  # fmt: skip
SOUND = {name: [level for level in levels if level not in HELD] for name, levels in FACTORS.items()}
CELLS = [Cell(**row) for row in covering(SOUND, allowed, seed=16, pairs_of=lambda a, b: False)]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_is_exact_or_refused_in_words(cell: Cell, tmp_path: Path) -> None:
    found = isolated(cell, tmp_path / "cell")
    assert found.outcome in ("exact", "refused", "not of Lightning"), found.words


def test_a_cell_is_really_stopped(tmp_path: Path) -> None:
    found = isolated(Cell(module="noise", hook="callback.on_train_batch_end"), tmp_path / "cell")
    assert found.outcome == "exact" and found.stops >= 2, "a cell that is never stopped shows nothing"


def test_a_broken_promise_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_state, "put_back_metrics", lambda *args: None)
    found = isolated(Cell(module="noise"), tmp_path / "cell")
    assert found.outcome == "fault" and "other bits" in found.words
