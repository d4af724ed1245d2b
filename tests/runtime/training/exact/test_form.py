"""A file whose checksums are right and that is no checkpoint is damaged: the one before it is used, in words."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import DamagedError, NbkitError
from nbkit.runtime.ledger.receipts import Receipt, read_receipt
from nbkit.runtime.training.checkpoint_io import load_checkpoint
from nbkit.runtime.training.exact.form import form_fault
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, TinySettings, train_tiny

GONE = object()
ODD: tuple[Any, ...] = (GONE, "odd", -1, float("nan"), None, [1, 2], {"a": 1}, torch.zeros(2, 3), torch.float32)


def bytes_of(tree: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


def empty_zip() -> bytes:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return file.getvalue()


CONTENTS = {
    "an empty dict": bytes_of({}),
    "a list": bytes_of([1]),
    "a number": bytes_of(5),
    "a tensor": bytes_of(torch.zeros(3)),
    "nothing": bytes_of(None),
    "an empty file": b"",
    "garbage": b"garbage",
    "an empty zip": empty_zip(),
    "a class": bytes_of({"a": pytest.approx(1)}),
    "half of a file": bytes_of({"a": torch.zeros(30)})[:300],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a session that was stopped, with two checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    train_tiny(folder, steps=12, n=36, validation=True)
    return folder


def newest(folder: Path) -> tuple[Path, Receipt]:
    path = max((folder / "checkpoints").glob("step-*.ckpt"))
    return path, read_receipt(path.with_suffix(".json"))


def copy_of(trained: Path, folder: Path, content: bytes) -> list[int]:
    """Copy the two checkpoints with other content of the newest, all checksums right; return their steps."""
    (folder / "checkpoints").mkdir(parents=True)
    steps = []
    for path in sorted((trained / "checkpoints").glob("step-*.*")):
        (folder / "checkpoints" / path.name).write_bytes(path.read_bytes())
        steps += [int(path.stem[5:])] if path.suffix == ".json" else []
    path, receipt = newest(folder)
    path.write_bytes(content)
    path.with_suffix(".json").unlink()
    dataclasses.replace(receipt, size=len(content), sha256=sha256_of(path)).write(path.parent)
    return steps[-2:]


def items_of(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, list | tuple) else []


def paths_of(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in items_of(tree):
        yield (*at, key)
        yield from paths_of(value, (*at, key))


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of the branch in which one place holds something else, or nothing."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1 and value is GONE:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(tree[path[0]], path[1:], value)
    return tuple(copy) if isinstance(tree, tuple) else copy


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_checkpoint_is_named_and_the_one_before_is_used(
    content: bytes, trained: Path, tmp_path: Path
) -> None:
    before, odd = copy_of(trained, tmp_path, content)
    done = train_tiny(tmp_path, steps=2, n=36, validation=True)
    said = " ".join(done.said)
    assert done.report.resumed_from == before, said
    assert f"step-{odd:09d}.ckpt" in said and f"the checkpoint of step {before} is complete and was used" in said
    assert "damaged" in said and "weights_only" not in said


def test_where_no_other_is_left_the_training_does_not_begin_anew(trained: Path, tmp_path: Path) -> None:
    copy_of(trained, tmp_path, bytes_of({}))
    for path in sorted((tmp_path / "checkpoints").glob("step-*"))[:2]:
        path.unlink()
    for _ in range(2):
        with pytest.raises(DamagedError, match="All checkpoints of tiny are damaged: .* it is not a checkpoint"):
            train_tiny(tmp_path, steps=2, n=36, validation=True)


def test_a_real_checkpoint_fits_and_one_of_another_place_does_not(trained: Path) -> None:
    path, receipt = newest(trained)
    checkpoint = load_checkpoint(path)
    assert form_fault(checkpoint, receipt) is None
    for other in ({"step": receipt.step + 1}, {"epoch": receipt.epoch + 1}, {"world_size": 2}):
        assert "its receipt says" in (form_fault(checkpoint, dataclasses.replace(receipt, **other)) or "")


def test_any_change_of_a_checkpoint_is_named_or_is_none_of_ours(trained: Path) -> None:
    path, receipt = newest(trained)
    checkpoint, passed = load_checkpoint(path), set()
    for at in paths_of(checkpoint):
        for value in ODD:
            if form_fault(changed(checkpoint, at, value), receipt) is None:
                passed.add(at)
    named = set(paths_of(checkpoint)) - passed
    assert {("epoch",), ("loops",), ("optimizer_states",), ("nbkit",)} <= {at[:1] for at in named}
    own = {at[:2] for at in passed if at[0] == "nbkit"}
    assert own <= {("nbkit", "metrics"), ("nbkit", "exact"), ("nbkit", "best"), ("nbkit", "history")}
    assert not {at for at in passed if at[0] == "nbkit" and len(at) == 3 and at[1] == "history"}


@pytest.mark.parametrize("name", ["loops", "state_dict", "optimizer_states", "lr_schedulers", "nbkit", "epoch"])
@pytest.mark.parametrize("value", [GONE, "odd", 1.5, None, [1]], ids=["gone", "text", "a number", "None", "a list"])
def test_each_part_that_a_checkpoint_must_have_is_asked_for(name: str, value: Any, trained: Path) -> None:
    path, receipt = newest(trained)
    fault = form_fault(changed(load_checkpoint(path), (name,), value), receipt)
    assert fault and fault.isprintable() and len(fault) < 300


ODD_STATES = {
    "a schedule": ("lr_schedulers", 0, "T_0"),
    "options of an optimizer": ("optimizer_states", 0, "param_groups", 0, "params"),
    "what a schedule was built with": ("nbkit", "exact", "built", "schedules", 0, "class"),
}


@pytest.mark.parametrize("at", ODD_STATES.values(), ids=ODD_STATES)
def test_what_the_form_does_not_cover_ends_in_words(at: tuple[Any, ...], trained: Path, tmp_path: Path) -> None:
    path, _ = newest(trained)
    copy_of(trained, tmp_path, bytes_of(changed(load_checkpoint(path), at, [torch.zeros(2, 3)])))
    try:
        train_tiny(tmp_path, steps=2, n=36, validation=True)
    except NbkitError as error:
        assert "checkpoint" in str(error)


class Odd(Tiny):
    """A module whose own hook fails."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise KeyError("of the user's own")


def test_an_error_of_the_users_own_hook_is_shown_as_it_is(trained: Path, tmp_path: Path) -> None:
    path, _ = newest(trained)
    copy_of(trained, tmp_path, path.read_bytes())
    with pytest.raises(KeyError, match="of the user's own"):
        fit(FakeSession(tmp_path, steps=2), Odd(TinySettings()), TinyData(n=36, validation=True))


def test_another_torch_is_to_be_installed_and_nothing_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(CONTENTS["a class"])
    with pytest.raises(NbkitError, match="written by torch 99.0.*Use that version") as error:
        load_checkpoint(tmp_path / "x.ckpt", "99.0")
    assert not isinstance(error.value, DamagedError)


def test_a_full_memory_damages_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(NbkitError, match="does not fit into the memory") as error:
        load_checkpoint(tmp_path / "x.ckpt")
    assert not isinstance(error.value, DamagedError)
