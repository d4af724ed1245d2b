"""Schedules that are built for a length, when the length grows, and optimizers that are built otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as of_torch

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Tiny, checkpoint_of

pytestmark = pytest.mark.train  # twice the same
BUILT: dict[str, Any] = {
    "OneCycleLR": lambda optimizer, total: of_torch.OneCycleLR(optimizer, 1e-2, total_steps=total),
    "CosineAnnealingLR": lambda optimizer, total: of_torch.CosineAnnealingLR(optimizer, T_max=total),
    "LinearLR": lambda optimizer, total: of_torch.LinearLR(optimizer, 1.0, 0.1, total_iters=total),
    "PolynomialLR": lambda optimizer, total: of_torch.PolynomialLR(optimizer, total_iters=total, power=2.0),
    "ConstantLR": lambda optimizer, total: of_torch.ConstantLR(optimizer, 0.5, total_iters=total - 1),
    "StepLR": lambda optimizer, total: of_torch.StepLR(optimizer, total // 4),
    "MultiStepLR": lambda optimizer, total: of_torch.MultiStepLR(optimizer, [total // 2, total - 2]),
    "ExponentialLR": lambda optimizer, total: of_torch.ExponentialLR(optimizer, 1 - 1 / total),
}
NESTED = {
    "SequentialLR": lambda optimizer, total: of_torch.SequentialLR(
        optimizer, [of_torch.LinearLR(optimizer, 0.1, total_iters=4), of_torch.CosineAnnealingLR(optimizer, total)], [4]
    ),
    "CyclicLR": lambda optimizer, total: of_torch.CyclicLR(optimizer, 1e-3, 1e-2, total // 4, cycle_momentum=False),
    "CosineAnnealingWarmRestarts": lambda optimizer, total: of_torch.CosineAnnealingWarmRestarts(optimizer, total // 3),
    "ReduceLROnPlateau": lambda optimizer, total: of_torch.ReduceLROnPlateau(optimizer, patience=total // 4),
}


def falling(step: int, total: float) -> float:
    return 1.0 - 0.5 * min(1.0, step / total)


class Falling:
    def __init__(self, total: int) -> None:
        self.total = total

    def __call__(self, step: int) -> float:
        return falling(step, self.total)

    def factor(self, step: int) -> float:
        return falling(step, self.total)


def of_inner(total: int) -> Callable[[int], float]:
    inner = functools.partial(falling, total=total)
    return lambda step: inner(step)


# how a schedule's function may know the length: nothing of it is in torch's own state
FUNCTIONS: dict[str, Callable[[int], Any]] = {
    "closure": lambda total: lambda step: falling(step, total),
    "closure of numpy's": lambda total: (lambda length: lambda step: float(falling(step, length)))(np.float64(total)),
    "default": lambda total: lambda step, length=total: falling(step, length),
    "keyword": lambda total: lambda step, *, length=total: falling(step, length),
    "partial": lambda total: functools.partial(falling, total=total),
    "partial of a partial": lambda total: functools.partial(functools.partial(falling, total=total)),
    "partial in a closure": of_inner,
    "method": lambda total: Falling(total).factor,
    "object": Falling,
}
CALLED: dict[str, Any] = {
    **{
        f"LambdaLR of a {name}": lambda optimizer, total, make=make: of_torch.LambdaLR(optimizer, make(total))
        for name, make in FUNCTIONS.items()
    },
    "MultiplicativeLR": lambda optimizer, total: of_torch.MultiplicativeLR(optimizer, lambda step: 0.1 ** (1 / total)),
    "SequentialLR": lambda optimizer, total: of_torch.SequentialLR(
        optimizer,
        [of_torch.ConstantLR(optimizer), of_torch.LambdaLR(optimizer, lambda step: falling(step, total))],
        [2],
    ),
}
CYCLES: dict[str, Any] = {  # what ends after 12 steps, how it is stepped, and what is said of it
    "plain": (lambda o, n: of_torch.OneCycleLR(o, 1e-2, total_steps=n), 12, {}, "12 steps.* needs 24.*max_steps=12"),
    "in SequentialLR": (
        lambda o, n: of_torch.SequentialLR(o, [of_torch.LinearLR(o), of_torch.OneCycleLR(o, 1e-2, total_steps=n)], [3]),
        9, {}, "in SequentialLR is built for 9 steps.* needs 21.*max_steps=12",
    ),
    "in ChainedScheduler": (
        lambda o, n: of_torch.ChainedScheduler([of_torch.OneCycleLR(o, 1e-2, total_steps=n)], o),
        12, {}, "in ChainedScheduler is built for 12 steps.* needs 24",
    ),
    "manual": (lambda o, n: of_torch.OneCycleLR(o, 1e-2, total_steps=n), 12, {"manual": True}, "needs 24"),
    "every second step": (
        lambda o, n: of_torch.OneCycleLR(o, 1e-2, total_steps=n), 6, {"frequency": 2}, "needs 11.*=11 or.*max_steps=14",
    ),
    "by epoch": (
        lambda o, n: of_torch.OneCycleLR(o, 1e-2, total_steps=n), 1, {"interval": "epoch"}, "needs 2.*max_steps=17",
    ),
}  # fmt: skip


class Scheduled(Tiny):
    def __init__(self, name: str, total: int, rate: float = 1e-2) -> None:
        super().__init__()
        self.name, self.total, self.rate = name, total, rate

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)
        if self.name == "none":
            return optimizer
        scheduler = {**BUILT, **NESTED, **CALLED}[self.name](optimizer, self.total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "monitor": "loss_step"},
        }


def rate_of(folder: Path) -> float:
    return float(checkpoint_of(folder)["optimizer_states"][0]["param_groups"][0]["lr"])


@pytest.mark.parametrize("name", [*BUILT, *NESTED])
def test_a_schedule_that_grows_with_the_training_is_refused_unless_accepted(name: str, tmp_path: Path) -> None:
    one_session(tmp_path / "grown", Scheduled(name, 12), max_steps=12)
    with pytest.raises(UsageError, match=rf"schedule 0 \({name}\).*-> .*accept_changes=True.*checkpoint is untouched"):
        one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24)
    assert checkpoint_of(tmp_path / "grown")["global_step"] == 12
    report, session = one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24, accept_changes=True, steps=6)
    assert any(name in line and "->" in line for line in session.said)
    # accepted once, it is what the checkpoint was built with
    report, _ = one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24)
    assert report.complete
    if name in BUILT:
        one_session(tmp_path / "once", Scheduled(name, 24), max_steps=24)
        assert rate_of(tmp_path / "grown") == pytest.approx(rate_of(tmp_path / "once"), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", CALLED)
def test_a_schedule_whose_function_grows_with_the_training_is_refused_unless_accepted(
    name: str, tmp_path: Path
) -> None:
    one_session(tmp_path / "grown", Scheduled(name, 12), max_steps=12)
    with pytest.raises(UsageError, match=r"schedule 0 \(.*lr_lambdas\[0\].*-> .*accept_changes=True.*is untouched"):
        one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24)
    one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24, accept_changes=True, steps=6)
    report, _ = one_session(tmp_path / "grown", Scheduled(name, 24), max_steps=24)
    assert report.complete
    if name != "MultiplicativeLR":  # which has no rate of its own at a step
        one_session(tmp_path / "once", Scheduled(name, 24), max_steps=24)
        assert rate_of(tmp_path / "grown") == pytest.approx(rate_of(tmp_path / "once"), rel=1e-6)


class Cycled(Tiny):
    def __init__(self, make: Any, total: int, manual: bool = False, **config: Any) -> None:
        super().__init__()
        self.make, self.total, self.config, self.automatic_optimization = make, total, config, not manual

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self.automatic_optimization:
            return loss
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.lr_schedulers().step()
        return None

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-2)
        scheduler = self.make(optimizer, self.total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", **self.config}}


@pytest.mark.parametrize(("make", "total", "options", "words"), CYCLES.values(), ids=CYCLES)
def test_a_cycle_that_ends_before_a_grown_training_is_refused_before_the_next_step(
    make: Any, total: int, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    one_session(tmp_path, Cycled(make, total, **options), max_steps=12, steps=7)
    report, _ = one_session(tmp_path, Cycled(make, total, **options), max_steps=12)  # to its last step
    assert report.complete
    with pytest.raises(UsageError, match=f"OneCycleLR .*{words}.*Nothing was trained"):
        one_session(tmp_path, Cycled(make, total, **options), max_steps=24)
    assert checkpoint_of(tmp_path)["global_step"] == 12


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_that_ends_before_a_training_is_told_in_words_and_goes_on_when_built_longer(
    name: str, tmp_path: Path
) -> None:
    make, total, options, _ = CYCLES[name]
    with pytest.raises(UsageError, match=r"OneCycleLR .*is built for \d+ steps.*total_steps|accept_changes=True"):
        one_session(tmp_path, Cycled(make, total, **options), max_steps=40)
    there = (tmp_path / "checkpoints").is_dir() and any((tmp_path / "checkpoints").glob("*.ckpt"))
    assert there == (name not in ("plain", "in SequentialLR", "in ChainedScheduler")), "those are known before a step"
    report, _ = one_session(tmp_path, Cycled(make, 60, **options), max_steps=40, accept_changes=True)
    assert report.complete and (report.resumed_from or 0) > 0 or not there


@pytest.mark.parametrize("name", ["every second step", "by epoch"])
def test_the_longest_training_that_is_named_for_a_cycle_is_possible(name: str, tmp_path: Path) -> None:
    make, total, options, words = CYCLES[name]
    one_session(tmp_path, Cycled(make, total, **options), max_steps=12)
    report, _ = one_session(tmp_path, Cycled(make, total, **options), max_steps=int(words.rpartition("=")[2]))
    assert report.complete


@pytest.mark.parametrize("name", [*BUILT, *NESTED, *CALLED])
def test_schedules_resume(name: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Scheduled(name, 24), steps=(7,), max_steps=16)


@pytest.mark.parametrize("name", ["plain", "in SequentialLR", "in ChainedScheduler"])
def test_a_cycle_shorter_than_the_training_is_refused_before_the_first_step(name: str, tmp_path: Path) -> None:
    make, total, _, _ = CYCLES[name]
    with pytest.raises(UsageError, match=rf"built for {total} steps, and max_steps is 24.*max_steps=12"):
        one_session(tmp_path, Cycled(make, total), max_steps=24)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_another_rate_is_refused_and_taken_over_where_accepted(tmp_path: Path) -> None:
    one_session(tmp_path, Scheduled("none", 0), steps=4)
    with pytest.raises(UsageError, match=r"optimizer 0 \(SGD\)\.group\[0\]\.lr: 0\.01 -> 0\.001"):
        one_session(tmp_path, Scheduled("none", 0, rate=1e-3))
    one_session(tmp_path, Scheduled("none", 0, rate=1e-3), accept_changes=True)
    assert rate_of(tmp_path) == 1e-3


def test_another_kind_of_optimizer_or_schedule_is_always_refused(tmp_path: Path) -> None:
    class Adam(Scheduled):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    one_session(tmp_path, Scheduled("StepLR", 8), steps=4)
    for module, words in (
        (Adam("none", 0), r"optimizers: \['SGD'\] -> \['Adam'\]"),
        (Scheduled("LinearLR", 8), r"schedulers: \['StepLR each 1 step'\] -> \['LinearLR each 1 step'\]"),
        (Scheduled("none", 8), r"schedulers: \['StepLR each 1 step'\] -> \[\]"),
    ):
        for accept in (False, True):
            with pytest.raises(UsageError, match=words) as caught:
                one_session(tmp_path, module, accept_changes=accept)
            assert "fresh=True" in str(caught.value) and "accept_changes" not in str(caught.value)
