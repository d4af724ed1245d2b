"""Moments, weights and plain tensors lie in memory as without a stop, so that sums over them give the same digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.runtime.training.exact.sessions import assert_same, in_sessions
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train


class Scaled(torch.optim.Optimizer):
    """Scales every step by the ratio of two norms, whose last digits depend on the order of the sums."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                moment = self.state[p].setdefault("moment", torch.zeros_like(p)).mul_(0.9).add_(p.grad)
                p.add_(moment * float(-group["lr"] * p.norm() / (moment.sum().abs() + 10)))
        return loss


def _table(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": lambda: _table(171, 233),
    "transposed": lambda: _table(171, 233).t(),
    "channels last": lambda: _table(13, 17, 7, 9).to(memory_format=torch.channels_last),
    "permuted": lambda: _table(13, 17, 7, 9).permute(2, 0, 3, 1),
    "a part of another": lambda: _table(171, 233)[:, 3:200:2],
}


class Laid(Tiny):
    """Its large weights, and a plain tensor and a buffer of the same kind, lie in memory in some order."""

    def __init__(self, make: Callable[[], torch.Tensor], later: bool = False) -> None:
        super().__init__()
        self.table, self.plain = nn.Parameter(make()), make()
        self.register_buffer("mean", make())
        self.later, self.size = [later], 0.0

    def on_train_epoch_start(self) -> None:
        if self.later[0] and self.current_epoch == 1:  # as a module's .to(memory_format=...)
            for tensor in (self.table, self.mean):
                tensor.data = tensor.data.to(memory_format=torch.channels_last)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, _ = batch
        self.mean.data = self.mean * 0.99
        self.plain = self.plain * 0.99
        self.size = float(self.plain.sum() + self.mean.sum() + self.table.detach().sum())
        spread = (self.table * self.table.detach().cos() * x.mean()).sum()
        return super().training_step(batch, batch_idx) + 1e-3 * spread + self.size * self.net[0].weight.sum() * 1e-5

    def configure_optimizers(self) -> Any:
        return Scaled(self.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_in_memory_in_some_order_does_so_after_a_resume(layout: str, tmp_path: Path) -> None:
    parts = in_sessions(tmp_path / "parts", lambda: Laid(LAYOUTS[layout]), steps=5, max_steps=14)
    assert_same(tmp_path, lambda: Laid(LAYOUTS[layout]), steps=(4, 3), max_steps=14)
    shape, here = LAYOUTS[layout]().shape, torch.empty_like(LAYOUTS[layout]()).stride()
    assert parts["state_dict"]["table"].stride() == parts["state_dict"]["mean"].stride() == here
    [state] = [s for s in parts["optimizer_states"][0]["state"].values() if s["moment"].shape == shape]
    assert state["moment"].stride() == here


def test_an_order_that_a_hook_gives_is_that_of_later_sessions(tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Laid(lambda: _table(13, 17, 7, 9), later=True), steps=(4, 11, 3), max_steps=24)
