"""Networks that the module does not register and that the training moves to the card at their first use.

There is no card here, so a stand-in keeps account of which memory would be on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nbkit.runtime.training.held import held, values
from nbkit.runtime.training.held.values import digest, form_of
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.training_support import Tiny, checkpoint_of

pytestmark = pytest.mark.train


class Card:
    """Memory of a card: what was put there, kept so that nothing else gets its address."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.UntypedStorage] = {}  # a tensor would let it go with its ``.data``

    def whereabouts(self, tensor: torch.Tensor) -> str:
        return "cuda" if tensor.numel() and tensor.data_ptr() in self.kept else "cpu"

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        there = tensor.detach().clone()
        self.kept[there.data_ptr()] = there.untyped_storage()
        return there

    def move(self, tensor: torch.Tensor, where: str, device: Any) -> None:
        if self.whereabouts(tensor) != where:
            tensor.data = self.put(tensor) if where == "cuda" else tensor.detach().clone()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card()
    for name in ("whereabouts", "move"):
        monkeypatch.setattr(values, name, getattr(made, name))
        monkeypatch.setattr(held, name, getattr(made, name))
    return made


def network() -> torch.nn.Module:
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    return net


class Taught(Tiny):
    """Has a teacher that is no submodule; asks one of its tensors whether it is on the card.

    Parameters
    ----------
    asks : str
        Which one.
    learns : bool
        Whether the teacher changes, as an average of the student does.
    """

    def __init__(self, card: Card, asks: str, learns: bool, holds: str) -> None:
        super().__init__()
        self.card, self.asks, self.learns, self.holds = [card], asks, learns, holds
        net = network().eval()
        if holds == "plain":
            self.__dict__["teacher"] = net
        else:
            self.teacher = [net] if holds == "list" else {"net": net}

    def the_teacher(self) -> torch.nn.Module:
        return {"plain": lambda t: t, "list": lambda t: t[0], "dict": lambda t: t["net"]}[self.holds](self.teacher)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        (card,), teacher = self.card, self.the_teacher()
        tensors = teacher.state_dict(keep_vars=True)
        if card.whereabouts(tensors[self.asks]) == "cpu":
            for parameter in teacher.parameters():  # as Module.to does
                parameter.data = card.put(parameter.data)
            for part in teacher.modules():
                for name, buffer in part._buffers.items():
                    part._buffers[name] = card.put(buffer)
        tensors = teacher.state_dict(keep_vars=True)
        apart = {name for name, tensor in tensors.items() if card.whereabouts(tensor) == "cpu"}
        assert not apart, f"expected all tensors to be on the same device, but {sorted(apart)} are on the CPU"
        if self.learns:
            for name in ("0.weight", "1.running_mean"):
                tensors[name].data.mul_(0.99)
        x, y = batch
        return super().training_step((x + teacher(x), y), batch_idx)


ASKED = ("0.weight", "0.bias", "1.weight", "1.running_var", "1.num_batches_tracked")


@pytest.mark.parametrize("holds", ["plain", "list", "dict"])
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("asks", ASKED)
def test_a_later_session_finds_all_of_a_network_where_the_training_had_it(
    asks: str, learns: bool, holds: str, card: Card, tmp_path: Path
) -> None:
    assert_same(tmp_path, lambda: Taught(card, asks, learns, holds), steps=(3,), max_steps=9)


def test_what_was_only_moved_is_not_copied_into_every_checkpoint(card: Card, tmp_path: Path) -> None:
    one_session(tmp_path, Taught(card, "0.weight", learns=False, holds="plain"), steps=3)
    entries = checkpoint_of(tmp_path)["nbkit"]["metrics"]["held"]["entries"]
    of_teacher = {path: entry for path, entry in entries.items() if "teacher" in path}
    assert len(of_teacher) == len(network().state_dict())
    assert {(entry[2], entry[5]) for entry in of_teacher.values()} == {("moved", "cuda")}


def test_a_checkpoint_of_a_card_goes_on_without_one(card: Card, tmp_path: Path, monkeypatch) -> None:
    one_session(tmp_path, Taught(card, "0.weight", learns=True, holds="plain"), steps=3, max_steps=6)
    monkeypatch.setattr(card, "move", lambda tensor, where, device: None)  # the training is on the CPU now
    monkeypatch.setattr(values, "move", card.move)
    monkeypatch.setattr(held, "move", card.move)
    in_sessions(tmp_path, lambda: Taught(card, "0.weight", learns=True, holds="plain"), max_steps=6)


def test_a_tensor_has_the_same_digest_on_every_device(card: Card) -> None:
    tensor = torch.arange(6.0).view(2, 3)
    for value, moved in (
        (tensor, card.put(tensor)),
        ([tensor, 1], [card.put(tensor), 1]),
        ({"a": (tensor,)}, {"a": (card.put(tensor),)}),
    ):
        assert digest(form_of(value)) == digest(form_of(moved))
    assert digest(form_of(tensor)) != digest(form_of(tensor + 1))
    assert digest(form_of(["tensor", "a"])) != digest(form_of(["tensor", "b"])), "a list that only looks like one"
