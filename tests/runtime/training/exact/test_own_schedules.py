"""What a schedule of one's own holds beside its state_dict, or in it and no checkpoint can hold, is kept."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, SequentialLR

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train


class Noam:
    """No class of torch's; its state leaves something out."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.n, self.scale, self.past = optimizer, 0, 1.0, []

    def step(self, *args: Any) -> None:
        self.n, self.scale = self.n + 1, self.scale * 0.97
        self.past.append(self.scale)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * self.scale * sum(self.past[-3:]) / self.n

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


class Drawn(LRScheduler):
    """Holds a generator and a deque, which torch's own state_dict takes over as they are."""

    def __init__(self, optimizer: Any) -> None:
        self.generator, self.last = np.random.default_rng(1), deque([1.0], 3)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        self.last.append(0.5 + float(self.generator.random()))
        return [rate * sum(self.last) for rate in self.base_lrs]


class Partial(Drawn):
    """Leaves its generator out of its state by itself."""

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().state_dict().items() if name not in ("generator", "last")}


class Warmup(LRScheduler):
    """Goes over to another schedule, which it holds."""

    def __init__(self, optimizer: Any) -> None:
        self.after, self.done = CosineAnnealingLR(optimizer, 20), False
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [rate * (1 + 0.3 * self.last_epoch) for rate in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        if self.last_epoch < 6 if hasattr(self, "last_epoch") else True:
            super().step()
        else:
            self.after.step()
            self._last_lr = self.after.get_last_lr()


class Inside(Tiny):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = [make]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.01)
        return [optimizer], [{"scheduler": self.make[0](optimizer), "interval": "step"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step()

    def on_train_start(self) -> None:
        self.started = True  # schedules are copied before hooks at the start, and put back after them


KINDS = {
    "another class": Noam,
    "generator and deque": Drawn,
    "its own state_dict": Partial,
    "another schedule": Warmup,
    "inside one of torch's": lambda o: SequentialLR(o, [Drawn(o), CosineAnnealingLR(o, 20)], [9]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_of_ones_own_resumes(kind: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Inside(KINDS[kind]), max_steps=14)


def test_what_cannot_be_kept_is_refused_with_the_remedy(tmp_path: Path) -> None:
    class Loads(Drawn):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.generator = state["generator"]

    with pytest.raises(UsageError, match=r"lr_schedulers.*Give the schedule a state_dict and a load_state_dict"):
        one_session(tmp_path, Inside(Loads), steps=4)
