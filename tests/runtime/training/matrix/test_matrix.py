"""The same bits or a refusal in words, for a covering part of the matrix.

Here every level occurs in a cell that trains: each of Lightning's callbacks, each of torch's schedulers, each hook,
each kind of module and data. Those that are refused have cells of their own. The pairs, and triples at random, are in
tests/bench/bench_matrix.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training import loop_state
from nbkit.runtime.training.same_training import explain_mismatch
from tests.runtime.training.matrix.cells import Cell, isolated, same_error
from tests.runtime.training.matrix.foreseen import REFUSED, cells_that_do_not, cells_that_train, foreseen

pytestmark = pytest.mark.train

CELLS = [*cells_that_train(seed=16), *cells_that_do_not(seed=17, parts=REFUSED)]

ONCE_AT_FAULT = [
    Cell(validation="every 2nd epoch", saves=1e-9),  # validation data that come late
    Cell(option="double"),
    Cell(option="double", callback="EMAWeightAveraging"),
    Cell(scheduler="ReduceLROnPlateau", interval="metric"),
    Cell(optimization="manual, two of different rhythm"),
    Cell(optimization="accumulated by a schedule"),
    Cell(module="unfreezes", optimization="two groups", way="SIGTERM", saves=1e-9),
    Cell(module="nested objects", validation="every 2nd epoch", way="exception"),
    Cell(module="late model", option="double", callback="EMAWeightAveraging", validation="every 2nd epoch"),
    Cell(module="adds a group", optimization="amsgrad", callback="BackboneFinetuning"),
    Cell(module="adds a group", optimization="momentum", callback="BaseFinetuning", saves=1e-9),
]


@pytest.mark.parametrize("cell", [*CELLS, *ONCE_AT_FAULT], ids=str)
def test_a_cell_is_exact_or_refused_in_words(cell: Cell, tmp_path: Path) -> None:
    found = isolated(cell, tmp_path / "cell")
    assert found.outcome in foreseen(vars(cell)), f"{found.outcome}: {found.words}"
    assert found.stops or found.outcome != "exact", "a cell that is never stopped shows nothing"


def test_another_model_is_explained_where_a_state_is_no_tensor() -> None:
    state = {"weight": torch.zeros(2, 2), "bias": torch.zeros(3), "_extra_state": None}
    with pytest.raises(UsageError, match="with another shape: bias"):
        explain_mismatch(RuntimeError("state_dict"), WithExtra(2, 2), {"state_dict": state}, Path("a.ckpt"))


class WithExtra(torch.nn.Linear):
    """Has a state beside its tensors."""

    def get_extra_state(self) -> None:
        return None


def test_a_cell_is_really_stopped(tmp_path: Path) -> None:
    found = isolated(Cell(module="noise", hook="callback.on_train_batch_end"), tmp_path / "cell")
    assert found.outcome == "exact" and found.stops >= 2


def test_an_error_of_lightnings_is_no_excuse_for_one_at_another_place() -> None:
    one = "ValueError: no such metric (lightning/pytorch/loops/fit_loop.py:12)"
    assert same_error(one, "ValueError: no such metric: b (lightning/pytorch/loops/fit_loop.py:12)")
    for other in (one.replace("12)", "13)"), one.replace("Value", "Key"), one.replace("lightning/", "nbkit/")):
        assert not same_error(one, other)
    hangs = "TimeoutError: hangs: not through after 60 s (cells.py:9)"
    assert not same_error(hangs, hangs), "both may hang at other places"


def test_a_broken_promise_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_state, "put_back_metrics", lambda *args: None)
    found = isolated(Cell(module="noise"), tmp_path / "cell")
    assert found.outcome == "fault" and "other bits" in found.words
