"""Modules, functions, classes and hooks that a training exchanges are kept, or refused at the first save."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torchmetrics
from torch import nn

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train


class Mean:
    """A class that is chosen by name."""


class Sum(Mean):
    """Another one."""


class Exchanges(Tiny):
    """Changes something at the start of epoch 1."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        super().__init__()
        self.criterion, self.function, self.kind = nn.L1Loss(), nn.functional.l1_loss, Mean
        self.by_name = {"loss": nn.functional.l1_loss}
        self.partial = functools.partial(nn.functional.huber_loss, delta=1.0)
        self.meters = nn.ModuleDict({"early": nn.Identity()})
        self.parts = nn.Sequential(nn.Identity(), nn.Identity())
        self.hook = self.net[0].register_forward_hook(lambda module, args, out: out * 1.5)
        self.of_weight = self.net[3].weight.register_hook(lambda gradient: gradient * 0.5)
        self.net[3].forward = lambda x, part=self.net[3]: nn.functional.linear(x, part.weight, part.bias) * 0.9
        self.late = None
        self.change = [change]

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.change[0](self)


def _delete(name: str) -> Callable[[Any], None]:
    return lambda m: delattr(m, name)


def _optimizer(m: Any) -> Any:
    return m.trainer.optimizers[0]


def _patch(thing: Any, name: str) -> None:
    before = getattr(thing, name)
    setattr(thing, name, lambda *args, **kwargs: before(*args, **kwargs))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a module": (lambda m: setattr(m, "criterion", nn.MSELoss()), r"module\.criterion was a L1Loss .* a MSELoss"),
    "a module of the same class": (lambda m: setattr(m, "criterion", nn.L1Loss()), r"module\.criterion was"),
    "a function": (
        lambda m: setattr(m, "function", nn.functional.mse_loss),
        r"module\.function was l1_loss .* mse_loss",
    ),
    "a function in a dict": (lambda m: m.by_name.update(loss=nn.functional.mse_loss), r"module\.by_name\['loss'\] was"),
    "a class": (lambda m: setattr(m, "kind", Sum), r"module\.kind was Mean .* is now Sum"),
    "a partial": (lambda m: setattr(m, "partial", functools.partial(m.partial, delta=2.0)), r"module\.partial was"),
    "a part of a Sequential": (lambda m: m.parts.__setitem__(1, nn.Tanh()), r"module\.parts\.1 was a Identity"),
    "a module that goes": (_delete("criterion"), r"module\.criterion was a L1Loss .* is now gone"),
    "a function that goes": (_delete("function"), r"module\.function was l1_loss .* is now gone"),
    "the last part": (lambda m: m.parts.__delitem__(1), r"module\.parts\.1 was a Identity .* is now gone"),
    "a new module": (lambda m: setattr(m, "late", nn.Tanh()), r"module\.late has become a Tanh"),
    "a late metric": (
        lambda m: m.meters.__setitem__("late", torchmetrics.MeanMetric()),
        r"module\.meters\.late has become",
    ),
    "a new hook": (lambda m: m.net[0].register_forward_pre_hook(lambda *args: None), "forward pre-hooks .* none -> "),
    "a hook of a weight": (
        lambda m: m.net[0].weight.register_hook(lambda gradient: gradient * 0.1),
        r"module\.net\.0\.weight has other hooks .* none -> ",
    ),
    "a hook of a weight after its gradient": (
        lambda m: m.net[0].weight.register_post_accumulate_grad_hook(lambda p: None),
        r"module\.net\.0\.weight has other hooks after the gradient .* none -> ",
    ),
    "a hook of a weight that goes": (
        lambda m: m.of_weight.remove(),
        r"module\.net\.3\.weight has other hooks .* -> none",
    ),
    "a hook before a step": (
        lambda m: _optimizer(m).register_step_pre_hook(lambda *args: None),
        "optimizer 0 has other step pre-hooks .* none -> ",
    ),
    "a hook after a step": (
        lambda m: _optimizer(m).register_step_post_hook(lambda *args: None),
        "optimizer 0 has other step post-hooks .* none -> ",
    ),
    "another step": (
        lambda m: _patch(_optimizer(m), "step"),
        r"optimizer 0\.step was .*(step|wrapper) .* is now .*<lambda>",
    ),
    "another schedule's step": (lambda m: _patch(m.lr_schedulers(), "step"), r"schedule 0\.step was "),
    "another forward of a layer": (lambda m: _patch(m.net[0], "forward"), r"module\.net\.0\.forward was .*forward"),
    "another forward of a container": (lambda m: _patch(m.net, "forward"), r"module\.net\.forward was .*forward"),
    "another training_step": (lambda m: _patch(m, "training_step"), r"module\.training_step was .*training_step"),
    "a forward that goes": (lambda m: delattr(m.net[3], "forward"), r"module\.net\.3\.forward was .* is now gone"),
    "the class's own forward": (
        lambda m: setattr(m.net[3], "forward", nn.Linear.forward.__get__(m.net[3])),
        r"module\.net\.3\.forward was .*<lambda> .* is now Linear\.forward",
    ),
    "a hook that goes": (lambda m: m.hook.remove(), r"module\.net\.0 has other forward hooks .* -> none"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_exchanged_is_refused_at_the_first_save(what: str, tmp_path: Path) -> None:
    change, words = REFUSED[what]
    with pytest.raises(UsageError, match=f"{words}.*earlier checkpoints are unchanged"):
        one_session(tmp_path, Exchanges(change), max_steps=12)


class LateCopy(lightning.Callback):
    """Keeps a mean of the weights from some batch on."""

    ema: Any = None

    def __init__(self, since: int, early: bool = False) -> None:
        self.since, self.early = since, early

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.early:
            self.ema = copy.deepcopy(module.net)

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if self.ema is None and trainer.global_step >= self.since:
            self.ema = copy.deepcopy(module.net)
        if self.ema is not None:
            with torch.no_grad():
                for mean, now in zip(self.ema.parameters(), module.net.parameters(), strict=True):
                    mean.lerp_(now, 0.1)
                module.net[0].weight.add_(self.ema[0].weight, alpha=1e-3)


@pytest.mark.parametrize("since", [0, 5])
def test_a_copy_of_the_weights_made_late_is_refused_with_the_remedy(since: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"LateCopy\.ema has become a Sequential.*__init__, setup\(\)"):
        one_session(tmp_path / "late", Tiny(), callbacks=[LateCopy(since)], steps=since + 2)
    assert_same(tmp_path / "early", Tiny, callbacks=lambda: [LateCopy(since, early=True)], max_steps=14)


class Chooses(Tiny):
    """Goes from one of the parts that it has to another one."""

    def __init__(self, weights: bool = False) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(1, 1) if weights else nn.Identity())
        self.other = nn.Sequential(nn.Linear(1, 1) if weights else nn.Tanh(), nn.Dropout(0.1))
        self.active = self.one
        self.extra: Any = nn.Tanh()
        self.kind, self.kinds = Mean, (Mean, Sum)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        out = self.active(self.net(x))
        out = out if self.extra is None else self.extra(out)
        return nn.functional.mse_loss(out.squeeze(-1), y) * (2 if self.kind is Sum else 1)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.active, self.extra, self.kind = self.other, None, Sum
            self.other[1].p = 0.2


def test_a_choice_among_parts_that_are_kept_is_exact(tmp_path: Path) -> None:
    assert_same(tmp_path, Chooses, steps=(4, 3), max_steps=22)


def test_a_choice_that_gives_weights_other_names_is_refused_where_it_happens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"module\.active was a Sequential .* now a Sequential"):
        one_session(tmp_path, Chooses(weights=True), max_steps=12)


class Part:
    """A part of a training that is no module."""

    def __init__(self, scale: float) -> None:
        self.scale, self.calls = scale, 0

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return loss * (self.scale + 0.01 * self.calls)


class Names(Tiny):
    """Goes from one of several objects to another one, by an attribute, a dict or a list."""

    def __init__(self, kind: str, place: str) -> None:
        super().__init__()
        self.kind, self.place = kind, place
        self.ones, self.named, self.listed, self.now = [Part(1.0), Part(0.3)], {}, [], None
        self.register_buffer("low", torch.full((1,), 0.5))
        self.high = nn.Parameter(torch.full((1,), 2.0))
        self.automatic_optimization = kind != "optimizer"
        if place != "attribute of None" and kind != "optimizer":
            self._name(0)

    def _name(self, which: int) -> None:
        chosen: Any = self.ones[which] if self.kind == "object" else (self.low, self.high)[which]
        if self.kind == "optimizer":
            chosen = self.optimizers()[which]
        if self.place == "dict":
            self.named["now"] = chosen
        elif self.place == "list":
            self.listed[:1] = [chosen]
        else:
            self.__dict__["now"] = chosen  # torch would register a parameter

    def on_train_epoch_start(self) -> None:
        self._name(self.current_epoch % 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        now = {"dict": self.named.get("now"), "list": next(iter(self.listed), None)}.get(
            self.place, self.__dict__["now"]
        )
        if self.kind != "optimizer":
            return now(loss) if self.kind == "object" else loss * now.squeeze()
        now.zero_grad()
        self.manual_backward(loss)
        return now.step()

    def configure_optimizers(self) -> Any:
        first = torch.optim.SGD(self.parameters(), 0.01)
        return [first, torch.optim.Adam(self.parameters(), 0.01)] if self.kind == "optimizer" else first


NAMED = [(kind, place) for kind in ("object", "tensor") for place in ("attribute", "attribute of None", "dict", "list")]


@pytest.mark.parametrize(("kind", "place"), [*NAMED, ("optimizer", "attribute of None")])
def test_which_object_is_named_is_the_same_after_a_resume(kind: str, place: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Names(kind, place), steps=(4, 3), max_steps=24)


def test_objects_that_a_list_sorts_keep_what_they_hold(tmp_path: Path) -> None:
    class Sorts(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [Part(0.5), Part(1.0), Part(0.9), Part(0.1)]
            self.leader = self.parts[2]

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.parts[batch_idx % 4].calls += round(float(batch[0].abs().sum()))
            self.parts.sort(key=lambda part: (part.calls, part.scale))
            return self.leader(self.parts[0](super().training_step(batch, batch_idx)))

    assert_same(tmp_path, Sorts, steps=(4, 3), max_steps=22)


def test_functions_made_anew_by_every_step_are_not_refused(tmp_path: Path) -> None:
    class Anew(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.bound, self.partial = (lambda x: x), self.forward, functools.partial(max, 1)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.bound, self.partial = self.forward, functools.partial(max, 1)
            self.closure = lambda: batch_idx
            return super().training_step(batch, batch_idx)

    _, session = one_session(tmp_path, Anew(), steps=9, save_every=1e-9)
    [line] = [line for line in session.said if "checkpoint cannot" in line]
    assert "module.closure" in line


def test_methods_that_a_library_wraps_are_no_change(tmp_path: Path) -> None:
    class Wraps(Tiny):
        """Makes a schedule late, which wraps the step of its optimizer, and names its own forward."""

        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                self.net[0].forward = self.net[0].forward
                self.rates = [torch.optim.lr_scheduler.StepLR(self.trainer.optimizers[1], 5)]

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.rates: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()[batch_idx % 2]
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01), Own(self.parameters(), 0.01)

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    report, _ = one_session(tmp_path, Wraps(), max_steps=14, save_every=1e-9)
    assert report.complete


def test_hooks_within_a_batch_are_no_change(tmp_path: Path) -> None:
    class Within(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
            self.hook = module.net[0].register_forward_hook(lambda *args: None)

        def on_train_batch_end(self, *args: Any) -> None:
            self.hook.remove()

    report, _ = one_session(tmp_path, Tiny(), callbacks=[Within()], max_steps=12, save_every=1e-9)
    assert report.complete
