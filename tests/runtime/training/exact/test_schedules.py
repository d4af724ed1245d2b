"""Schedules that are built for a length, when the length grows, and optimizers that are built otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


class Scheduled(Tiny):
    def __init__(self, name: str, total: int, rate: float = 1e-2) -> None:
        super().__init__()
        self.name, self.total, self.rate = name, total, rate

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)
        if self.name == "none":
            return optimizer
        scheduler = {**BUILT, **NESTED}[self.name](optimizer, self.total)
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


@pytest.mark.parametrize("name", [*BUILT, *NESTED])
def test_schedules_resume(name: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Scheduled(name, 24), steps=(7,), max_steps=16)


def test_a_cycle_shorter_than_the_training_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"built for 12 steps, and max_steps is 24.*max_steps=12"):
        one_session(tmp_path, Scheduled("OneCycleLR", 12), max_steps=24)
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
