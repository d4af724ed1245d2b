"""After an error inside a step the state is saved only where it is, bit for bit, that before the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nbkit.runtime.training.exact import untouched
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.training_support import Tiny, checkpoint_of, digest

pytestmark = pytest.mark.train

AT = 7


class Changes(Tiny):
    """Changes something in every step; one step fails after that."""

    def __init__(self, change: Callable[[Any, torch.Tensor], Any], fails: bool) -> None:
        super().__init__()
        self.key = torch.nn.Linear(4, 1).requires_grad_(False)
        torch.nn.init.ones_(self.key.weight)
        torch.nn.init.ones_(self.key.bias)
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("passing", torch.ones(4), persistent=False)
        self.plain, self.many, self.signs = torch.ones(4), [torch.ones(4)], torch.zeros(4)
        self.one, self.other = torch.nn.Identity(), torch.nn.Dropout(0.1)
        self.active = self.one
        self.change, self.fails = [change], fails

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        self.change[0](self, x)
        if self.fails and self.global_step == AT:
            raise RuntimeError("CUDA out of memory")
        x = self.active(x * self.mean * self.passing * self.plain * self.many[0] * torch.exp(self.signs))
        return super().training_step((x + self.key(x), y), batch_idx)


def _set(tensor: torch.Tensor, x: torch.Tensor) -> None:
    tensor.data = tensor.data * 0.9 + 0.1 * x.mean()


def _moments(m: Any) -> None:
    for state in m.optimizers().optimizer.state.values():
        state["exp_avg"].data.mul_(0.5)


CHANGES: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "weights, by a new storage": lambda m, x: _set(m.key.weight, x),
    "weights, in place": lambda m, x: m.key.weight.data.mul_(0.9).add_(x.mean(), alpha=0.1),
    "weights that are trained": lambda m, x: m.net[0].weight.data.clamp_(-0.2, 0.2),
    "a buffer": lambda m, x: m.mean.data.mul_(0.9).add_(x.mean(0), alpha=0.1),
    "a buffer that is not persistent": lambda m, x: m.passing.data.mul_(0.9).add_(x.mean(0), alpha=0.1),
    "a plain tensor": lambda m, x: m.plain.data.mul_(0.9).add_(x.mean(0), alpha=0.1),
    "a plain tensor, by a new storage": lambda m, x: _set(m.plain, x),
    "a tensor in a list": lambda m, x: m.many[0].data.mul_(0.9).add_(x.mean(0), alpha=0.1),
    "the sign of a zero": lambda m, x: m.signs.data.neg_(),
    "a rate": lambda m, x: m.optimizers().param_groups[0].update(lr=m.optimizers().param_groups[0]["lr"] * 0.95),
    "a schedule": lambda m, x: m.lr_schedulers().step(),
    "moments": lambda m, x: _moments(m),
    "the history": lambda m, x: m.logger.log_metrics({"mine": float(x.sum())}, m.global_step),
    "the part that is used": lambda m, x: setattr(m, "active", m.other if m.global_step >= AT else m.one),
    "an option of the Trainer": lambda m, x: setattr(m.trainer, "gradient_clip_val", 0.1 * (1 + m.global_step)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_state_that_a_failed_step_has_changed_is_not_saved(what: str, tmp_path: Path) -> None:
    options = {"max_steps": 14, "gradient_clip_val": 1.0}
    with pytest.raises(RuntimeError, match="out of memory"):
        one_session(tmp_path / "parts", Changes(CHANGES[what], fails=True), **options)
    assert checkpoint_of(tmp_path / "parts")["global_step"] < AT
    whole = in_sessions(tmp_path / "whole", lambda: Changes(CHANGES[what], fails=False), **options)
    parts = in_sessions(tmp_path / "parts", lambda: Changes(CHANGES[what], fails=False), **options)
    assert digest(parts) == digest(whole)


def test_where_the_contents_are_too_large_to_be_compared_the_last_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, step in ((1 << 20, AT), (400, 1)):  # bytes
        monkeypatch.setattr(untouched, "MOST", most)
        with pytest.raises(RuntimeError, match="out of memory"):
            one_session(tmp_path / str(most), Changes(lambda m, x: None, fails=True), max_steps=14)
        assert checkpoint_of(tmp_path / str(most))["global_step"] == step


def test_large_plain_tensors_are_not_taken_for_unchanged(tmp_path: Path) -> None:
    class Bank(Tiny):
        def __init__(self, fails: bool = False) -> None:
            super().__init__()
            self.bank, self.fails = torch.zeros(9000, 4), fails

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x, y = batch
            self.bank.data[batch_idx * 4 : batch_idx * 4 + len(x)].add_(x)
            if self.fails and self.global_step == AT:
                raise RuntimeError("CUDA out of memory")
            return super().training_step((x + self.bank[:50].mean(), y), batch_idx)

    with pytest.raises(RuntimeError, match="out of memory"):
        one_session(tmp_path / "failed", Bank(fails=True), max_steps=14)
    assert checkpoint_of(tmp_path / "failed")["global_step"] < AT
    assert_same(tmp_path, Bank, max_steps=14)


def test_bits_are_compared() -> None:
    zero, nan = torch.zeros(3), torch.full((2, 2), float("nan"))
    assert untouched._same_bits(nan, nan.clone()) and untouched._same_bits(nan.t(), nan)
    assert not untouched._same_bits(zero, -zero)
    for kind in (torch.bfloat16, torch.complex64, torch.bool, torch.int8):
        assert untouched._same_bits(torch.ones(5, dtype=kind), torch.ones(5, dtype=kind))
        assert not untouched._same_bits(torch.ones((), dtype=kind), torch.zeros((), dtype=kind))
