"""What objects save by themselves, in a state_dict or in on_save_checkpoint: it is not kept a second time.

Their own way of restoring it holds, even where it is not the value of the save.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule

from nbkit.runtime.training.exact.own_schedules import keep_storable

# what Lightning itself writes into a checkpoint
_STANDARD = {
    "epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states",
    "lr_schedulers", "MixedPrecision", "datamodule_hparams_name", "datamodule_hyper_parameters", "hparams_name",
    "hyper_parameters", "nbkit",
}  # fmt: skip


def leave_out_covered(states: Iterable[Mapping[str, Any]], trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Remove from the kept entries of all processes what a checkpoint holds already.

    An attribute is covered if its owner saves something under its name, or saves the same tensors, and loads anything
    at all: what is only exported for others is put back as if it were not there.
    """
    keep_storable(trainer, checkpoint)
    names, tensors = _covered_by(trainer, checkpoint)
    for state in states:
        entries = state["held"]["entries"]
        for path, (parent, key, kind, _, _, form) in list(entries.items()):
            by_name = str(key).strip("_") in names.get(parent, ())
            if by_name or (kind == "plain" and _only_tensors(form) and _tensors(form) <= tensors):
                del entries[path]


def callbacks_of(trainer: Any) -> Iterator[tuple[str, Any]]:
    """Return the user's callbacks by a name that is the same in every session."""
    numbers: dict[str, int] = {}
    for callback in trainer.callbacks:
        name = type(callback).__qualname__
        if not type(callback).__module__.startswith("nbkit.runtime"):
            numbers[name] = numbers.get(name, 0) + 1
            yield name + (f" ({numbers[name]})" if numbers[name] > 1 else ""), callback


_SHOWS = {"tqdm", "rich", "matplotlib", "PIL", "logging", "io", "_io", "threading", "weakref", "IPython", "plotly"}


def _covered_by(trainer: Any, checkpoint: dict[str, Any]) -> tuple[dict[str, set[str]], set[int]]:
    """Return the names that each object saves by itself, by its path, and the addresses of all tensors saved so."""
    data = type(trainer.datamodule).__qualname__
    extra = {key: value for key, value in checkpoint.items() if key not in _STANDARD and key != data}
    states = {path: checkpoint.get("callbacks", {}).get(cb.state_key, {}) for path, cb in callbacks_of(trainer)}
    states |= {"module": {}, "data": checkpoint.get(data, {})}
    owners = {"module": trainer.lightning_module, "data": trainer.datamodule, **dict(callbacks_of(trainer))}
    states = {path: state if _overrides(owners[path], "load_state_dict") else {} for path, state in states.items()}
    exchanging = [path for path, owner in owners.items() if _writes_more(owner)]
    names = {path: {*_names(state), *(_names(extra) if path in exchanging else ())} for path, state in states.items()}
    return names, _tensors([*states.values(), extra if exchanging else {}])


def _writes_more(owner: Any) -> bool:
    """Return whether an object writes entries of its own into checkpoints, and reads some."""
    return _overrides(owner, "on_save_checkpoint") and _overrides(owner, "on_load_checkpoint")


def _overrides(owner: Any, name: str) -> bool:
    bases = (getattr(kind, name, None) for kind in (Callback, LightningDataModule, LightningModule))
    return getattr(type(owner), name, None) not in [None, *bases]


def _only_tensors(form: Any) -> bool:
    """Return whether a form is a tensor, or a list of tensors or a dict from names to tensors."""
    if not isinstance(form, list) or form[0] == "tensor":
        return isinstance(form, list)
    items = form[3::2] if form[0] in ("dict", "OrderedDict") else form[2:]
    return bool(items) and all(isinstance(item, list) and item[0] == "tensor" for item in items)


def _names(state: Any, depth: int = 2) -> Iterator[str]:
    if isinstance(state, Mapping) and depth:
        for name, value in state.items():
            yield str(name).strip("_")
            yield from _names(value, depth - 1)


def _tensors(tree: Any) -> set[int]:
    if isinstance(tree, torch.Tensor):
        return {tree.data_ptr()} if tree.numel() else set()
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return {address for part in parts for address in _tensors(part)}
