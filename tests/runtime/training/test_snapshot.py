"""A snapshot is a copy that later steps cannot reach, and it loads with weights_only=True."""

from __future__ import annotations

import io
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.training.snapshot import Buffers, Writer


def loads(tree: object) -> bool:
    file = io.BytesIO()
    torch.save(tree, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except Exception:
        return False
    return True


def test_a_snapshot_does_not_change_with_the_model() -> None:
    model = torch.nn.Linear(3, 2)
    copy = Buffers().copy({"state_dict": model.state_dict()})
    before = copy["state_dict"]["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(copy["state_dict"]["weight"], before)


def test_the_same_memory_is_used_again() -> None:
    buffers, tensor = Buffers(), torch.zeros(1000)
    first = buffers.copy({"a": tensor})["a"].data_ptr()
    assert buffers.copy({"a": tensor + 1})["a"].data_ptr() == first
    assert buffers.bytes() == 4000


def test_tied_weights_stay_tied() -> None:
    weight = torch.zeros(5)
    copy = Buffers().copy({"a": weight, "b": weight, "c": weight[:2]})
    assert copy["a"] is copy["b"] and copy["c"] is not copy["a"]


def test_a_view_takes_only_its_own_bytes() -> None:
    buffers = Buffers()
    buffers.copy({"a": torch.zeros(1_000_000)[:10]})
    assert buffers.bytes() == 40


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.zeros(2, 3, 4).permute(2, 0, 1),
        torch.zeros(4, 6)[:, ::2],
        torch.zeros(1).expand(3, 2),
    ],
)
def test_a_copy_lies_in_memory_as_a_clone_does_and_uses_its_memory_again(tensor: torch.Tensor) -> None:
    buffers = Buffers()
    copy = buffers.copy({"a": tensor})["a"]
    assert copy.stride() == tensor.clone().stride() and torch.equal(copy, tensor)
    assert buffers.copy({"a": tensor})["a"] is copy
    file = io.BytesIO()
    torch.save(copy, file)
    file.seek(0)
    assert torch.load(file, weights_only=True).stride() == copy.stride()


def test_layout_versions_of_a_module_are_kept() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert Buffers().copy(state)._metadata == state._metadata


@dataclass
class Thing:
    a: int = 1


@pytest.mark.parametrize(
    "value",
    [Thing(), np.float64(1.0), np.zeros(2), Path("x"), deque([1]), range(3), slice(1), type("D", (dict,), {})()],
    ids=lambda v: type(v).__name__,
)
def test_what_would_not_load_is_refused_by_its_place(value: object) -> None:
    with pytest.raises(UsageError) as error:
        Buffers().copy({"callbacks": {"Mine": [1, value]}})
    assert "callbacks.Mine[1]" in str(error.value) and "weights_only=True" in str(error.value)


_leaf = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(),
    st.builds(torch.zeros, st.integers(0, 3)), st.just(torch.float16), st.just(torch.device("cpu")),
    st.just(torch.Size([1, 2])), st.builds(np.float32, st.floats(width=32)), st.builds(Counter), st.builds(Thing),
)  # fmt: skip
_tree = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner),
        st.dictionaries(st.integers(), inner).map(OrderedDict), st.sets(st.integers()),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_tree)
def test_whatever_is_let_through_loads(tree: object) -> None:
    try:
        copy = Buffers().copy(tree)
    except UsageError:
        return
    assert loads(copy)


def test_a_save_whose_thread_finds_no_memory_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: object) -> None:
        raise MemoryError

    writer, done = Writer(), []
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_run", without_memory)
        writer.begin(lambda: done.append(1))
        with pytest.raises(StoreError, match="could not be written: the thread that writes it found no memory"):
            writer.finish()
    writer.begin(lambda: done.append(2))
    writer.finish()
    assert done == [2]
