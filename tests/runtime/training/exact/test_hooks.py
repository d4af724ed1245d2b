"""What hooks switch at the start of an epoch holds after a resume inside that epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning, GradientAccumulationScheduler

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.training_support import BATCHES, Tiny, TinyData, checkpoint_of, digest

pytestmark = pytest.mark.train  # twice the same


class WithBackbone(Tiny):
    """Two parts; the optimizer begins with the trained ones only."""

    def __init__(self) -> None:
        super().__init__()
        state = torch.random.get_rng_state()
        torch.manual_seed(11)
        self.backbone = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        torch.random.set_rng_state(state)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        return super().training_step((self.backbone(x), y), batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-2)


class UnfreezesByHand(WithBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.backbone.requires_grad_(False)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.backbone.requires_grad_(True)
            torch.rand(1)  # a hook that draws must not be called a second time


class AddsGroupByHand(UnfreezesByHand):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net.parameters(), lr=1e-2)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 1:
            self.optimizers().add_param_group({"params": list(self.backbone.parameters()), "lr": 3e-3})


class FreezesStatistics(Tiny):
    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.net[1].eval()
        if self.current_epoch == 3:
            self.net[1].train()


class ChangesTrainer(Tiny):
    def on_train_epoch_start(self) -> None:
        self.trainer.gradient_clip_val = 0.1 * (1 + self.current_epoch)
        self.trainer.val_check_batch = BATCHES - self.current_epoch
        self.trainer.limit_val_batches = 0 if self.current_epoch == 1 else 1.0


class Unfreezing(BaseFinetuning):
    def freeze_before_training(self, module: Any) -> None:
        self.freeze(module.backbone, train_bn=False)

    def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(module.backbone, optimizer, lr=2e-3)


CASES: dict[str, Any] = {
    "unfrozen by hand": (UnfreezesByHand, list),
    "group added by hand": (AddsGroupByHand, list),
    "statistics in eval mode": (FreezesStatistics, list),
    "trainer's options": (ChangesTrainer, list),
    "BaseFinetuning": (WithBackbone, lambda: [Unfreezing()]),
    "BackboneFinetuning": (WithBackbone, lambda: [BackboneFinetuning(1, lambda epoch: 1.5)]),
    "GradientAccumulationScheduler": (Tiny, lambda: [GradientAccumulationScheduler({0: 2, 1: 4, 2: 1})]),
}


@pytest.mark.parametrize("case", CASES)
def test_epoch_start_holds_after_a_resume(case: str, tmp_path: Path) -> None:
    module, callbacks = CASES[case]
    assert_same(
        tmp_path, module, callbacks=callbacks, data=lambda: TinyData(validation=True),
        gradient_clip_val=5.0,
    )  # fmt: skip


class Plateau(Tiny):
    """A rate that falls at every epoch end, as the metric only grows."""

    def __init__(self, name: str, **config: Any) -> None:
        super().__init__()
        self.name, self.config = name, config

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log("grows", 1.0 + self.current_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-2)
        kinds = torch.optim.lr_scheduler
        scheduler = {
            "plateau": lambda: kinds.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
            "step": lambda: kinds.StepLR(optimizer, 1, gamma=0.5),
        }[self.name]()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "grows", **self.config}}


@pytest.mark.parametrize("config", [{}, {"frequency": 2}, {"strict": False}], ids=str)
@pytest.mark.parametrize("name", ["plateau", "step"])
def test_schedulers_by_epoch_step_at_the_first_epoch_end_of_a_session(name: str, config: dict, tmp_path: Path) -> None:
    def module() -> Plateau:
        return Plateau(name, **config)

    assert_same(tmp_path, module, steps=(7,), max_steps=4 * BATCHES + 2)
    rate = checkpoint_of(tmp_path / "whole")["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate < 1e-2


def test_metrics_of_validation_batches_keep_their_steps(tmp_path: Path) -> None:
    class LogsSteps(Tiny):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", batch[0].mean(), on_step=True, on_epoch=True)

    assert_same(
        tmp_path, LogsSteps, steps=(7,), data=lambda: TinyData(validation=True), log_every_n_steps=1,
        check_val_every_n_epoch=2,
    )  # fmt: skip


def test_an_epoch_left_early_counts_on_across_sessions(tmp_path: Path) -> None:
    class Leaves(Tiny):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 5 + self.current_epoch % 2 else None

    assert_same(tmp_path, Leaves, data=lambda: TinyData(validation=True), val_check_interval=4)


def test_freezing_something_between_sessions_is_refused_unless_accepted(tmp_path: Path) -> None:
    one_session(tmp_path, WithBackbone(), steps=4)

    class Frozen(WithBackbone):
        def on_fit_start(self) -> None:
            self.backbone.requires_grad_(False)

        def setup(self, stage: str) -> None:
            self.net[3].requires_grad_(False)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    with pytest.raises(UsageError, match=r"net\.3\.weight\.requires_grad: True -> False.*accept_changes"):
        one_session(tmp_path, Frozen())
    report, session = one_session(tmp_path, module := Frozen(), accept_changes=True)
    assert report.complete and not module.net[3].weight.requires_grad
    assert any("net.3.weight" in line for line in session.said)


def test_other_groups_between_sessions_are_refused(tmp_path: Path) -> None:
    class Swapped(WithBackbone):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(list(self.parameters())[::-1], lr=1e-2)

    one_session(tmp_path, WithBackbone(), steps=4)
    with pytest.raises(UsageError, match=r"group 0, parameter 0: net\.0\.weight -> backbone"):
        one_session(tmp_path, Swapped())


@pytest.mark.parametrize("what", ["optimizer", "schedule"])
def test_replaced_optimizers_and_schedules_are_refused_where_it_happens(what: str, tmp_path: Path) -> None:
    class Replaces(Tiny):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1 and what == "optimizer":
                self.trainer.optimizers = [torch.optim.SGD(self.parameters(), lr=0.1)]
            if self.current_epoch == 1 and what == "schedule":
                other = torch.optim.lr_scheduler.StepLR(self.trainer.optimizers[0], 2)
                self.trainer.lr_scheduler_configs[0].scheduler = other

    with pytest.raises(UsageError, match="optimizer or schedule was replaced before step"):
        one_session(tmp_path, Replaces(), save_every=0.0001)


class EverySecond(torch.optim.SGD):
    """An optimizer with a count of its own, as Lookahead has."""

    count = 0

    def step(self, closure: Any = None) -> Any:
        self.count += 1
        for group in self.param_groups:
            group["lr"] = 1e-2 if self.count % 3 else 3e-2
        return super().step(closure)


def test_what_an_optimizer_counts_by_itself_resumes(tmp_path: Path) -> None:
    class Counted(Tiny):
        def configure_optimizers(self) -> Any:
            return EverySecond(self.parameters(), lr=1e-2)

    assert_same(tmp_path, Counted, max_steps=14)


class Holds(torch.optim.SGD):
    """Draws its noise, lists norms, keeps a tensor, and slow weights with their own optimizer."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.noise, self.norms, self.mean = torch.Generator().manual_seed(1), [], torch.zeros(())
        self.every = [p for group in self.param_groups for p in group["params"]]
        self.slow = [p.detach().clone() for p in self.every]
        self.inner = torch.optim.Adam(self.param_groups, lr=lr)
        self.inner.param_groups = self.param_groups

    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        self.norms.append(float(sum(p.grad.square().sum() for p in self.every)))
        self.mean += self.norms[-1]
        for group in self.param_groups:
            group["lr"] = 1e-2 / (1 + float(self.mean) / len(self.norms))
        self.inner.step()
        with torch.no_grad():
            for slow, p in zip(self.slow, self.every, strict=True):
                p.add_(torch.randn(p.shape, generator=self.noise), alpha=1e-3)
                if len(self.norms) % 5 == 0:
                    slow.lerp_(p, 0.5)
                    p.copy_(slow)
        return loss


def test_what_an_optimizer_holds_beside_its_state_dict_resumes(tmp_path: Path) -> None:
    class Held(Tiny):
        def configure_optimizers(self) -> Any:
            return Holds(self.parameters(), lr=1e-2)

    assert_same(tmp_path, Held, steps=(4, 3), max_steps=14)


class Grows(Tiny):
    """A bank of past inputs that grows by every batch, a buffer that begins as None, and one registered late."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, 4))
        self.register_buffer("mean", None)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.bank = torch.cat([self.bank, batch[0].detach()])[-50:]
        self.mean = self.bank.mean(0)
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.ones(3))
        self.late += self.mean.sum()
        return super().training_step(batch, batch_idx) + (self.net[0].weight.mean() * self.late.mean())


def test_grown_buffers_resume(tmp_path: Path) -> None:
    assert_same(tmp_path, Grows, max_steps=16)


def test_new_parameters_are_refused_at_the_first_save(tmp_path: Path) -> None:
    class GrowsParameters(Tiny):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                self.register_parameter("extra", torch.nn.Parameter(torch.ones(2)))
                self.register_parameter("more", torch.nn.Parameter(torch.ones(2)))

    with pytest.raises(UsageError, match=r"other parameters.*extra, more.*configure_model"):
        one_session(tmp_path, GrowsParameters(), save_every=0.0001)


def test_a_module_trained_again_in_one_process_begins_as_it_came(tmp_path: Path) -> None:
    """A notebook's cell may be run again with the module that the session before has left half-way."""
    whole = in_sessions(tmp_path / "whole", UnfreezesByHand)
    module = UnfreezesByHand()

    class Fails(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == BATCHES + 3:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one_session(tmp_path / "again", module, callbacks=[Fails()], save_every=None)
    one_session(tmp_path / "again", module)
    assert digest(checkpoint_of(tmp_path / "again")) == digest(whole)


def test_draws_at_the_start_of_an_epoch_do_not_depend_on_the_process(tmp_path: Path) -> None:
    class Draws(Tiny):
        def on_train_epoch_start(self) -> None:
            self.net[0].weight.data += 0.01 * torch.randn_like(self.net[0].weight)

    def begun_with(number: int) -> Draws:
        module = Draws()
        torch.manual_seed(number)
        return module

    first, second = (
        in_sessions(tmp_path / f"{number}", lambda number=number: begun_with(number), steps=steps, max_steps=20)
        for number, steps in ((1, None), (2, 4))
    )
    assert digest(first) == digest(second)


class Starts(Tiny):
    """What hooks of a start do: load pretrained weights, set a rate, draw, begin a schedule anew."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.hook = hook

    def start(self) -> None:
        with torch.no_grad():
            self.net[0].weight.data = torch.full_like(self.net[0].weight, 0.1)
            self.net[3].bias += torch.rand(1)
            self.net[1].running_mean.fill_(0.5)

    def on_fit_start(self) -> None:
        if self.hook == "on_fit_start":
            self.start()

    def on_train_start(self) -> None:
        if self.hook == "on_train_start":
            self.start()
            self.optimizers().param_groups[0]["lr"] = 3e-3
            self.lr_schedulers().last_epoch = 2


@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start"])
def test_hooks_of_the_start_change_nothing_in_a_resumed_session(hook: str, tmp_path: Path) -> None:
    def module() -> Starts:
        torch.manual_seed(3)
        return Starts(hook)

    assert_same(tmp_path, module, steps=(7,), max_steps=20)
