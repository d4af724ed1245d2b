"""Trainings of several kinds, killed again and again, are those that were never killed."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from tests.runtime.training.exact.sessions import first_difference, one_session
from tests.runtime.training.exact.test_gradients import Rhythms
from tests.runtime.training.exact.test_hooks import AddsGroupByHand, Grows, Plateau
from tests.runtime.training.training_support import Tiny, TinyData, checkpoint_of, train_with_kills

pytestmark = pytest.mark.kill

KILLS = 3
KINDS: dict[str, Any] = {
    "plateau by epoch": (lambda: Plateau("plateau"), list),
    "group added by hand": (AddsGroupByHand, list),
    "grown buffers": (Grows, list),
    "two rhythms": (lambda: Rhythms(1, 3, "after"), list),
    "accumulation by a schedule": (Tiny, lambda: [GradientAccumulationScheduler({0: 2, 1: 3})]),
}


class Pauses(TinyData):
    """Give the killer time."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        import time

        time.sleep(0.003)
        return batch


def train(folder: Path, kind: str = "", **options: Any) -> Any:
    module, callbacks = KINDS[kind]
    options = {"validation": True, **options}
    data = Pauses(validation=options.pop("validation"))
    report, _ = one_session(folder, module(), data, callbacks=callbacks(), max_steps=40, **options)
    return SimpleNamespace(report=report)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_drawn_instants_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    train(tmp_path / "whole", kind)
    (tmp_path / "killed").mkdir()
    kills, events = train_with_kills(
        tmp_path / "killed", KILLS, random.Random(kind), train=train, kind=kind, save_every=0.0001
    )
    assert kills == KILLS, "the storm must really have killed"
    assert first_difference(checkpoint_of(tmp_path / "whole"), checkpoint_of(tmp_path / "killed")) == "nothing"
