"""A module that is trained again in one process, as when a cell is run once more, begins as its checkpoint says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn

from tests.runtime.training.exact.sessions import in_sessions, one_session
from tests.runtime.training.training_support import Tiny, checkpoint_of, digest

pytestmark = pytest.mark.train


class Link(Tiny):
    """Names another part from epoch 1 on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.MSELoss(), nn.L1Loss()
        self.criterion: Any = self.first

    def on_train_epoch_start(self) -> None:
        self.criterion = self.second if self.current_epoch else self.first

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.criterion(self.net(batch[0]).squeeze(-1), batch[1])


class Added(Tiny):
    """Has an attribute from some step on."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step >= 3 and not hasattr(self, "reference"):
            self.reference = float(batch[0].sum())
        return super().training_step(batch, batch_idx) * (1 + 0.1 * math.tanh(getattr(self, "reference", 0.0)))


class Deleted(Tiny):
    """Loses an attribute, and an entry of a dict that holds a function."""

    def __init__(self) -> None:
        super().__init__()
        self.warm, self.named = 0.5, {"warm": 0.5, "function": nn.functional.relu}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 6:
            del self.warm, self.named["warm"]
        return super().training_step(batch, batch_idx) * (getattr(self, "warm", 1.0) + self.named.get("warm", 1.0))


class Fails(lightning.Callback):
    """Ends the training with an error at some step, once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError


@pytest.mark.parametrize("stopped", [None, 2])
@pytest.mark.parametrize("make", [Link, Added])
def test_what_the_failed_session_has_left_does_not_stay(
    make: Callable[[], Any], stopped: int | None, tmp_path: Path
) -> None:
    whole = in_sessions(tmp_path / "whole", make, max_steps=24)
    module = make()
    if stopped is not None:
        one_session(tmp_path / "again", module, steps=stopped, max_steps=24)
    for step in (9, 16):
        with pytest.raises(ZeroDivisionError):
            one_session(tmp_path / "again", module, callbacks=[Fails(step)], max_steps=24)
    one_session(tmp_path / "again", module, max_steps=24)
    assert digest(checkpoint_of(tmp_path / "again")) == digest(whole)


def test_what_was_deleted_before_the_checkpoint_stays_deleted(tmp_path: Path) -> None:
    whole = in_sessions(tmp_path / "whole", Deleted, max_steps=24)
    module = Deleted()
    one_session(tmp_path / "again", module, steps=9, max_steps=24)
    one_session(tmp_path / "again", module, max_steps=24)
    assert digest(checkpoint_of(tmp_path / "again")) == digest(whole)
