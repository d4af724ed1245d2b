"""SIGKILL at hooks by name, at the instants of a save and of the closing, and in five cells of the matrix.

All hooks are in tests/bench/bench_matrix.py; here those that a person would name.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.runtime.training import loop_state
from tests.runtime.training.matrix.cells import Cell
from tests.runtime.training.matrix.kills import MOMENTS, PLACES, kill_at, undisturbed

pytestmark = pytest.mark.kill

NAMED = [
    *(f"callback.on_train_epoch_{end}" for end in ("start", "end")),
    *(f"callback.on_train_batch_{end}" for end in ("start", "end")),
    *(f"callback.on_validation_{part}" for part in ("start", "batch_end", "end")),
    "module.training_step",
    "module.on_before_zero_grad",
    "callback.on_save_checkpoint",
    "callback.on_train_end",
    "data.setup",
    *MOMENTS,
]
FIVE = {
    "callback.on_before_optimizer_step": Cell(module="noise", scheduler="OneCycleLR", callback="EMAWeightAveraging"),
    "callback.on_validation_batch_start": Cell(module="torchmetrics", validation="within an epoch", data="workers"),
    "module.lr_scheduler_step": Cell(
        optimization="accumulated", scheduler="ReduceLROnPlateau", interval="step", data="weighted"
    ),
    "module.on_train_epoch_end": Cell(optimization="L-BFGS", scheduler="StepLR", interval="epoch", data="augmented"),
    "save: between file and receipt": Cell(module="counts in hooks", optimization="manual", scheduler="CyclicLR"),
}
CELL = Cell(module="noise", scheduler="CosineAnnealingLR", interval="epoch")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return undisturbed(CELL, tmp_path_factory.mktemp("calm"))


def test_the_named_places_are_places() -> None:
    assert {*NAMED, *FIVE} <= {*PLACES}


@pytest.mark.parametrize("place", NAMED)
def test_killed_there_it_ends_as_if_nobody_had(place: str, calm, tmp_path: Path) -> None:
    found = kill_at(place, CELL, calm, tmp_path, seed=NAMED.index(place), kills=2)
    assert found.kills, "the kill must have come about"
    assert found.fault is None


@pytest.mark.parametrize("place", FIVE)
def test_five_cells_of_the_matrix_come_through_kills(place: str, tmp_path: Path) -> None:
    cell = FIVE[place]
    found = kill_at(place, cell, undisturbed(cell, tmp_path / "calm"), tmp_path / "killed", seed=5, kills=4)
    assert found.kills >= 2 and found.wiped
    assert found.fault is None


def test_a_broken_resume_is_found(calm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_state, "put_back_metrics", lambda *args: None)
    found = kill_at("module.training_step", CELL, calm, tmp_path, seed=2, kills=2)
    assert found.kills and found.fault is not None
