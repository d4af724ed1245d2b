"""What objects hold in plain attributes is the same after stops, wherever and of whatever kind it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.receipts import read_receipt
from nbkit.runtime.training.fit import fit
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.held.kinds import draw_all, furnish
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, checkpoint_of

pytestmark = pytest.mark.train


class Scaled(Tiny):
    """Scales its loss by what was drawn before the step, and logs each number."""

    drawn: dict[str, float]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log_dict({name: value for name, value in self.drawn.items()}, on_step=True)
        return super().training_step(batch, batch_idx) * (1 + 0.01 * sum(self.drawn.values()) / len(self.drawn))


class ModuleHolds(Scaled):
    def __init__(self) -> None:
        super().__init__()
        furnish(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.drawn = draw_all(self)


class PartHolds(Scaled):
    def __init__(self) -> None:
        super().__init__()
        furnish(self.net[2])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.drawn = draw_all(self.net[2])


class CallbackHolds(lightning.Callback):
    def __init__(self) -> None:
        furnish(self)

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        module.drawn = draw_all(self)


class Waiting(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.drawn = {"nothing": 0.0}


class DataHolds(TinyData):
    def __init__(self) -> None:
        super().__init__()
        furnish(self)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.trainer.lightning_module.drawn = draw_all(self)
        return batch


HOLDERS = {
    "module": {"module": ModuleHolds},
    "part of the module": {"module": PartHolds},
    "callback": {"module": Waiting, "callbacks": lambda: [CallbackHolds(), CallbackHolds()]},
    "DataModule": {"module": Waiting, "data": DataHolds},
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_kind_in_every_holder(holder: str, tmp_path: Path) -> None:
    assert_same(tmp_path, steps=(5,), max_steps=22, log_every_n_steps=1, **HOLDERS[holder])


def test_tensors_outside_the_state_dict(tmp_path: Path) -> None:
    class Hidden(Tiny):
        """A buffer that is not persistent, and a teacher that is not registered."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(4), persistent=False)
            self.teacher = [torch.nn.Linear(4, 1)]
            torch.nn.init.constant_(self.teacher[0].weight, 0.1)
            torch.nn.init.zeros_(self.teacher[0].bias)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x, y = batch
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            with torch.no_grad():
                for parameter in self.teacher[0].parameters():
                    parameter.data.mul_(0.99)
            return super().training_step((x - self.mean + self.teacher[0](x).detach(), y), batch_idx)

    assert_same(tmp_path, Hidden, steps=(5,), max_steps=22)


class Covered(lightning.Callback):
    """Saves two attributes under its own names and restores them in its own way; holds a third."""

    def __init__(self) -> None:
        self.count, self.shadow, self.rest = 0, torch.zeros(3), 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.count, self.rest = self.count + 1, self.rest + 1
        self.shadow += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.shadow = -state["count"], state["mean"] + 100


def test_own_restored_value_wins(tmp_path: Path) -> None:
    one_session(tmp_path, Tiny(), steps=5, callbacks=[Covered()])
    again = Covered()
    _, session = one_session(tmp_path, Tiny(), steps=1, callbacks=[again])
    assert (again.count, again.shadow.tolist(), again.rest) == (-5 + 1, [106.0] * 3, 6)
    held = checkpoint_of(tmp_path)["nbkit"]["metrics"]["held"]["entries"]
    assert "Covered.rest" in held and not {"Covered.count", "Covered.shadow"} & set(held)


def test_what_cannot_be_stored_is_named_once_with_the_remedy(tmp_path: Path) -> None:
    class Odd(lightning.Callback):
        handle: Any = None

        def on_train_batch_end(self, *args: Any) -> None:
            self.handle = memoryview(b"x")

    _, session = one_session(tmp_path, Tiny(), callbacks=[Odd()], save_every=1e-9)
    [line] = [line for line in session.said if "Odd.handle" in line]
    assert "builtins.memoryview" in line and "state_dict" in line


def test_plain_modules_hold_nothing_and_say_nothing(tmp_path: Path) -> None:
    _, session = one_session(tmp_path, Tiny(), steps=9)
    assert checkpoint_of(tmp_path)["nbkit"]["metrics"]["held"]["entries"] == {}
    assert not [line for line in session.said if "checkpoint cannot" in line]


def test_older_checkpoints_still_resume(tmp_path: Path) -> None:
    """Without entries of this kind, and with the states of metrics where they were."""
    one_session(tmp_path, Tiny(), steps=5)
    [path] = [p for p in (tmp_path / "checkpoints").glob("*.ckpt") if "000000005" in p.name]
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["nbkit"]["metrics"]["held"]
    checkpoint["nbkit"]["metrics"]["modules"] = {}
    whole = in_sessions(tmp_path / "whole", Tiny, max_steps=8)
    _overwrite(path, checkpoint)
    report = fit(FakeSession(tmp_path), Tiny(), TinyData(), max_steps=8, save_every=None)
    assert report.resumed_from == 5 and report.complete
    now = checkpoint_of(tmp_path)
    assert all(now["state_dict"][name].equal(value) for name, value in whole["state_dict"].items())


def _overwrite(path: Path, checkpoint: dict[str, Any]) -> None:
    torch.save(checkpoint, path)
    content, receipt = path.read_bytes(), read_receipt(path.with_suffix(".json"))
    replace(receipt, size=len(content), sha256=hashlib.sha256(content).hexdigest()).write(path.parent)


def test_a_place_that_is_gone_is_refused_unless_accepted(tmp_path: Path) -> None:
    one_session(tmp_path, ModuleHolds(), steps=5)

    class Without(ModuleHolds):
        def __init__(self) -> None:
            super().__init__()
            self.meter = 1.0

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.drawn = {"nothing": 0.0}

    with pytest.raises(UsageError, match=r"module\.meter\..*accept_changes=True"):
        one_session(tmp_path, Without(), steps=1)
    _, session = one_session(tmp_path, Without(), steps=1, accept_changes=True)
    assert any("module.meter" in line for line in session.said)


def test_objects_trained_again_in_one_process_resume_from_the_checkpoint(tmp_path: Path) -> None:
    """A cell that is run once more after an error: the count and list of the failed steps are not kept."""

    class Late(Tiny):
        fails = True

        def __init__(self) -> None:
            super().__init__()
            self.count, self.seen, self.mine = 0, [], 1

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step > 8:  # after the last save
                self.count += 1
                self.seen.append(self.count)
            if self.global_step == 12 and self.fails:
                raise RuntimeError("planted")
            return super().training_step(batch, batch_idx) * (1 + 0.1 * self.count + 0.2 * len(self.seen))

    whole = in_sessions(tmp_path / "whole", lambda: _sound(Late), max_steps=18)
    Late.fails, module, data = True, Late(), TinyData()
    one_session(tmp_path / "again", module, data, steps=5, max_steps=18)
    with pytest.raises(RuntimeError, match="planted"):
        one_session(tmp_path / "again", module, data, max_steps=18)
    Late.fails, module.mine = False, 2
    report, _ = one_session(tmp_path / "again", module, data, max_steps=18)
    again = checkpoint_of(tmp_path / "again")
    assert report.resumed_from == 5 and module.mine == 2
    assert all(again["state_dict"][name].equal(value) for name, value in whole["state_dict"].items())


def test_an_error_after_a_change_is_not_saved_as_the_state_before(tmp_path: Path) -> None:
    """The count of the failed step must not be in the checkpoint."""

    class Failing(Tiny):
        broken = True

        def __init__(self) -> None:
            super().__init__()
            self.count, self.rng = 0, np.random.default_rng(0)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.count += 1
            if self.count == 7 and Failing.broken:
                raise RuntimeError("planted")
            return super().training_step(batch, batch_idx) * (1 + 0.1 * self.count * self.rng.random())

    whole = in_sessions(tmp_path / "whole", lambda: _sound(Failing), max_steps=12)
    Failing.broken = True
    with pytest.raises(RuntimeError, match="planted"):
        one_session(tmp_path / "failed", Failing(), max_steps=12)
    parts = in_sessions(tmp_path / "failed", lambda: _sound(Failing), max_steps=12)
    assert all(parts["state_dict"][name].equal(value) for name, value in whole["state_dict"].items())


def _sound(kind: Any) -> Any:
    kind.broken = kind.fails = False
    return kind()


class Copies(Tiny):
    """Keeps a copy of the weights that a hook makes at the start, and never changes it.

    Parameters
    ----------
    hook : str
        ``on_fit_start`` or ``on_train_start``.
    kept : str
        How: a network in a list, tensors in a dict, an array, or tensors of a callback's.
    """

    def __init__(self, hook: str, kept: str) -> None:
        super().__init__()
        self.kept, self.teacher = kept, None
        setattr(self, hook, self.copies)

    def copies(self) -> None:
        weight = self.net[0].weight.detach().clone()
        net = torch.nn.Linear(4, 8, bias=False).requires_grad_(False)
        net.weight.data.copy_(weight)
        self.teacher = {"network": [net], "tensors": {"a": weight}, "array": weight.numpy().copy(), "tensor": weight}[
            self.kept
        ]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        there = self.teacher
        weight = {"network": lambda: there[0].weight, "tensors": lambda: there["a"]}.get(self.kept, lambda: there)()
        apart = (self.net[0].weight - torch.as_tensor(weight)).square().sum()
        return super().training_step(batch, batch_idx) + 0.1 * apart


@pytest.mark.parametrize("kept", ["network", "tensors", "array", "tensor"])
@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start"])
def test_a_copy_of_the_weights_that_a_hook_makes_at_the_start_is_of_the_first_session(
    hook: str, kept: str, tmp_path: Path
) -> None:
    assert_same(tmp_path, lambda: Copies(hook, kept), steps=(4,), max_steps=14)


def test_what_a_hook_makes_for_its_own_machine_is_of_each_session(tmp_path: Path) -> None:
    class Places(Tiny):
        def on_train_start(self) -> None:
            self.place, self.process = str(tmp_path / f"made-{len(list(tmp_path.iterdir()))}"), len(str(id(self)))

    one_session(tmp_path / "work", Places(), steps=3)
    (tmp_path / "more").mkdir()
    module = Places()
    one_session(tmp_path / "work", module, steps=3)
    assert module.place.endswith("made-2")


@pytest.mark.parametrize("loads", [False, True])
def test_what_is_only_exported_is_restored_from_the_attribute(loads: bool, tmp_path: Path) -> None:
    """A mean of the weights that a checkpoint holds for others, and which nothing loads, is state all the same."""

    class Exports(Tiny):
        mean: Any = None

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["mean"] = self.mean

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss if self.mean is None else loss + 0.1 * ((self.net[0].weight - self.mean) ** 2).sum()

        def on_train_batch_end(self, *args: Any) -> None:
            now = self.net[0].weight.detach()
            self.mean = now.clone() if self.mean is None else 0.9 * self.mean + 0.1 * now

    class Loads(Exports):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.mean = checkpoint["mean"]

    assert_same(tmp_path, Loads if loads else Exports, max_steps=14)
