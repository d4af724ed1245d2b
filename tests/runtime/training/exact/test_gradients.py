"""Gradients that are pending at a save are not lost, whatever the rhythm of the optimizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from nbkit.runtime.training.fit import fit
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.training_support import BATCHES, FakeSession, Tiny, TinyData, checkpoint_of, digest

pytestmark = pytest.mark.train  # twice the same


class Rhythms(Tiny):
    """Manual optimization of two parts: one steps every `first` batches, the other every `second`.

    Parameters
    ----------
    clear : str
        When gradients are cleared: ``"after"`` the step, ``"before"`` the first batch of a sum, to ``"zeros"``, or
        ``"never"``.
    """

    automatic_optimization = False

    def __init__(self, first: int, second: int, clear: str) -> None:
        super().__init__()
        self.rhythms, self.clear = (first, second), clear

    def configure_optimizers(self) -> Any:
        parts = [list(self.net[0].parameters()), [*self.net[1].parameters(), *self.net[3].parameters()]]
        return [torch.optim.Adam(part, lr=1e-2, weight_decay=0.1) for part in parts], []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if self.clear == "before":
            for optimizer, every in zip(self.optimizers(), self.rhythms, strict=True):
                if batch_idx % every == 0:
                    optimizer.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        for optimizer, every in zip(self.optimizers(), self.rhythms, strict=True):
            if batch_idx % every == every - 1:
                optimizer.step()
                if self.clear in ("after", "zeros"):
                    optimizer.zero_grad(set_to_none=self.clear == "after")


@pytest.mark.parametrize(
    ("first", "second", "clear"),
    [(1, 1, "before"), (1, 3, "after"), (2, 3, "zeros"), (2, 3, "before"), (4, 4, "after"), (1, 3, "never")],
)
def test_optimizers_of_any_rhythm(first: int, second: int, clear: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Rhythms(first, second, clear), steps=(1,), max_steps=9)


class StopsAfterBatches(lightning.Callback):
    """Ask for the end, as a signal does, after so many batches, which need not be steps."""

    def __init__(self, session: FakeSession, batches: int) -> None:
        self.session, self.batches, self.seen = session, batches, 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batches:
            self.session.budget.stop_for_signal("SIGTERM")


@pytest.mark.parametrize("batches", [2, 7])
@pytest.mark.parametrize(
    "options",
    [{"accumulate_grad_batches": 4}, {"accumulate_grad_batches": 100}, {"schedule": {0: 3, 1: 5, 2: 2}}],
    ids=str,
)
def test_a_signal_within_an_accumulation_stops_at_the_next_batch(options: dict, batches: int, tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        return [GradientAccumulationScheduler(dict(schedule))] if schedule else []

    schedule = options.get("schedule")
    options = {name: value for name, value in options.items() if name != "schedule"} | {"max_steps": 3}
    for _ in range(80):
        session = FakeSession(tmp_path / "parts")
        stops = StopsAfterBatches(session, batches)
        report = fit(session, Tiny(), TinyData(), save_every=None, callbacks=[*callbacks(), stops], **options)
        if report.complete:
            break
    whole = in_sessions(tmp_path / "whole", Tiny, callbacks=callbacks, **options)
    assert digest(checkpoint_of(tmp_path / "parts")) == digest(whole)


def test_checkpoints_hold_gradients_only_where_they_are_pending(tmp_path: Path) -> None:
    one_session(tmp_path / "a", Tiny(), steps=3, accumulate_grad_batches=2)
    assert checkpoint_of(tmp_path / "a")["nbkit"]["exact"]["gradients"] == {}
    one_session(tmp_path / "b", Rhythms(1, 3, "after"), steps=2)
    held = checkpoint_of(tmp_path / "b")["nbkit"]["exact"]["gradients"]
    assert set(held) == {"net.1.weight", "net.1.bias", "net.3.weight", "net.3.bias"}
    assert all(gradient.abs().sum() > 0 for gradient in held.values())


class Unoptimized(Tiny):
    """A parameter that no optimizer clears, and clipping over all parameters, as it is often written."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[3].parameters(), lr=1e-2)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.5)


class ClearsByItself(Tiny):
    """Gradients decay instead of being cleared."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)


@pytest.mark.parametrize("module", [Unoptimized, ClearsByItself])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_that_nobody_clears(module: Any, accumulate: int, tmp_path: Path) -> None:
    assert_same(tmp_path, module, steps=(2,), accumulate_grad_batches=accumulate, max_steps=3 * BATCHES // accumulate)


@pytest.mark.parametrize("module", [Tiny, ClearsByItself, lambda: Rhythms(1, 3, "never")])
@pytest.mark.parametrize("accumulate", [1, 4, 50])
def test_the_clock_saves_whatever_the_gradients_do(module: Any, accumulate: int, tmp_path: Path) -> None:
    made = module()
    made.pause = 0.03  # the clock waits for the writer
    accumulate = accumulate if made.automatic_optimization else 1
    options = {"save_every": 0.0001, "accumulate_grad_batches": accumulate, "max_steps": 30 if accumulate == 1 else 6}
    _, session = one_session(tmp_path, made, **options)
    saves = [event for event in session.events if event["e"] == "save" and "clock" in event["why"]]
    assert len({event["step"] for event in saves}) > 1


def test_many_batches_without_a_step_are_said(tmp_path: Path) -> None:
    class Forgets(Tiny):
        """Steps torch's own optimizer, whose steps Lightning does not count."""

        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            self.optimizers().optimizer.step()

        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.fit_loop.total_batch_idx == 210:
                session.budget.request_stop("SIGTERM")

    session = FakeSession(tmp_path)
    report = fit(session, Forgets(), TinyData(), max_steps=10)
    assert report.step == 0 and report.reason == "SIGTERM"
    assert sum("no optimizer step was counted in 200 batches" in line for line in session.said) == 1
