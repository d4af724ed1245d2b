"""Whether an error inside a step has left everything as it was before the batch.

Only then may the state be saved after the error. Torch's counts of changes do not tell: what is written through
``.data`` is not counted, and rates, schedules and rows of the history have no counts. So the contents are copied before
every batch and compared bit for bit after the error. That is done where they are small. With larger ones a copy would
slow every step down, and the last checkpoint stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nbkit.runtime.training.exact.gradients import pending
from nbkit.runtime.training.exact.groups import own_attributes
from nbkit.runtime.training.exact.modes import options
from nbkit.runtime.training.exact.own_schedules import state_of
from nbkit.runtime.training.held.places import cannot_change, has_own_state
from nbkit.runtime.training.held.values import NotPlain, digest, form_of

MOST = 1 << 20  # bytes of weights, buffers, optimizer state and pending gradients that are copied before a batch
_FEW = 64  # of these tensors: to copy more takes a noticeable share of a step


_QUICKEST = frozenset({type(None), bool, int, float, str})  # looked up at once, as most leaves are these
_QUICK = 1 << 16  # bytes of an array, or items of a list
_NO_CONTENT = b"large"  # of a tensor whose content is not compared


class _Unknown(Exception):
    """Raised where it cannot be told whether a state is the same."""


class Untouched:
    """Compare what a checkpoint holds with what it was before the batch.

    Parameters
    ----------
    trainer : Trainer
    history : History
    """

    def __init__(self, trainer: Any, history: Any) -> None:
        self._module, self._history = trainer.lightning_module, history
        self._named = list(self._module.state_dict(keep_vars=True).values())
        self._parameters, self._parts = list(self._module.parameters()), list(self._module.modules())
        weights = {id(one): one for one in (*self._named, *self._parameters) if _is_strided(one)}
        self._large = len(weights) > _FEW or sum(one.nbytes for one in weights.values()) > MOST
        self._hooked = _overrides_batch_start(trainer)
        self._plain: list[Any] | None = None
        self._tensors: list[torch.Tensor] = []
        self._copies: list[torch.Tensor] = []

    def mark(self, trainer: Any, batch: int) -> None:
        """Copy what there is before a batch."""
        try:
            self._plain, tensors = self._contents(trainer, batch)
        except _Unknown:
            self._plain = None
            return
        with torch.no_grad():
            if tensors and _fit(tensors, self._copies):
                torch._foreach_copy_(self._copies, tensors)
            else:
                self._copies = [tensor.detach().clone() for tensor in tensors]
        self._tensors = tensors  # kept, so that no other tensor is taken for one of them

    def since(self, trainer: Any, batch: int) -> bool:
        """Return whether nothing has changed since the mark; False also where that is not known."""
        named = list(self._module.state_dict(keep_vars=True).values())
        if self._plain is None or len(named) != len(self._named):
            return False
        if not all(a is b for a, b in zip(named, self._named, strict=True)):
            return False
        try:
            plain, tensors = self._contents(trainer, batch)
        except _Unknown:
            return False
        if plain != self._plain or not _fit(tensors, self._copies):
            return False
        same = all(a is b for a, b in zip(tensors, self._tensors, strict=True))
        return same and all(map(_same_bits, tensors, self._copies))

    def _contents(self, trainer: Any, batch: int) -> tuple[list[Any], list[torch.Tensor]]:
        if self._large or self._hooked:
            raise _Unknown
        plain: list[Any] = [trainer.global_step, len(self._history), options(trainer), own_attributes(trainer)]
        results = trainer.fit_loop.epoch_loop._results
        plain += [len(results), sum(metric._update_count for metric in results.values())]
        plain += [[p.requires_grad for p in self._parameters], [part.training for part in self._parts]]
        tensors = [tensor for tensor in (*self._named, *self._parameters) if isinstance(tensor, torch.Tensor)]
        states = [state_of(config.scheduler) for config in trainer.lr_scheduler_configs]
        parts: list[Any] = [pending(trainer, batch), states]
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                plain.append([id(parameter) for parameter in group["params"]])
                parts += [group["params"], {name: value for name, value in group.items() if name != "params"}]
            plain.append([id(parameter) for parameter in optimizer.state])
            parts.append(list(optimizer.state.values()))
        _gather(parts, plain, tensors)
        tensors = list({id(tensor): tensor for tensor in tensors}.values())
        if len(tensors) > _FEW or not all(map(_is_strided, tensors)) or sum(tensor.nbytes for tensor in tensors) > MOST:
            raise _Unknown
        return plain, tensors


def mark_of(value: Any) -> Any:
    """Return something that is equal as long as a value is the same, and quick to take; large arrays never are."""
    if isinstance(value, torch.Tensor):
        content = digest(form_of(value)) if value.device.type == "cpu" and value.nbytes <= _QUICK else _NO_CONTENT
        return value.data_ptr(), 0 if value.is_inference() else value._version, content
    if cannot_change(value):
        return value
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.nbytes <= _QUICK else object()
    if isinstance(value, Mapping):
        return [(key, mark_of(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return [mark_of(item) for item in value] if len(value) <= _QUICK else object()
    try:
        return mark_of(value.state_dict()) if has_own_state(value) else digest(form_of(value))
    except NotPlain:
        return id(value)


def unsure(mark: Any) -> bool:
    """Return whether a mark is of a tensor whose content it does not tell."""
    return any(map(unsure, mark)) if isinstance(mark, list | tuple) else mark is _NO_CONTENT


def _gather(value: Any, plain: list[Any], tensors: list[torch.Tensor]) -> None:
    """Collect the tensors, numbers and texts of nested containers, with the keys and lengths of these."""
    if type(value) in _QUICKEST:
        plain.append(value)
    elif isinstance(value, torch.Tensor):
        tensors.append(value)
    elif isinstance(value, Mapping):
        plain.append(len(value))
        for key, item in value.items():
            plain.append(key if cannot_change(key) else id(key))
            _gather(item, plain, tensors)
    elif isinstance(value, list | tuple | deque):
        plain.append(len(value))
        for item in value:
            _gather(item, plain, tensors)
    elif cannot_change(value):
        plain.append(value)
    else:
        raise _Unknown


def _is_strided(value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return False
    return not (value.is_meta or value.is_quantized)


def _fit(tensors: list[torch.Tensor], copies: list[torch.Tensor]) -> bool:
    """Return whether the copies have the shapes, kinds and places of the tensors."""
    if len(tensors) != len(copies):
        return False
    for one, other in zip(tensors, copies, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
            return False
    return True


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors hold the same bits; zeros of both signs differ, and numbers that are none do not."""
    one, other = (t.detach().contiguous().reshape(-1) for t in (a, b))
    if one.is_complex():
        one, other = torch.view_as_real(one.resolve_conj()), torch.view_as_real(other.resolve_conj())
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _overrides_batch_start(trainer: Any) -> bool:
    from lightning.pytorch import Callback, LightningModule

    if type(trainer.lightning_module).on_train_batch_start is not LightningModule.on_train_batch_start:
        return True
    # a hook at the start of a batch may change anything, and it runs before or after ours depending on the order
    others = [cb for cb in trainer.callbacks if not type(cb).__module__.startswith("nbkit.")]
    return any(type(cb).on_train_batch_start is not Callback.on_train_batch_start for cb in others)
