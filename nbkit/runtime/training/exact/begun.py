"""Hooks at the start of a fit, which run in every session, and must change nothing in a resumed one.

``on_fit_start`` and ``on_train_start`` belong to the start of a training: they load pretrained weights, draw a first
value, set a rate. Lightning calls them after it has loaded a checkpoint, and they would overwrite what it holds. So the
weights, rates and schedules are compared before these hooks, and put back after them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule

from nbkit.runtime.training.exact.own_schedules import state_of

_HOOKS = ("on_fit_start", "on_train_start")


class StartHooks:
    """Undo what the hooks at the start of a fit change in a training that has begun before.

    Parameters
    ----------
    checkpoint : mapping
        The checkpoint that the session resumes from.
    """

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        # a callback that averages weights saves the average in their place
        self._weights: Mapping[str, Any] = checkpoint.get("current_model_state", checkpoint["state_dict"])
        self._loaded: list[str] = []
        self._rates: list[list[dict[str, Any]]] = []
        self._schedules: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: Any) -> None:
        """Record which weights are those of the checkpoint; a user's hook may have changed others while loading."""
        if _overridden(trainer):
            self._loaded = [name for name, tensor, saved in self._pairs(trainer) if _equal(tensor, saved)]

    def on_train_start(self, trainer: Any) -> None:
        """Record the rates and schedules, which have been loaded by now."""
        if _overridden(trainer):
            self._rates = [copy.deepcopy(_options(optimizer)) for optimizer in trainer.optimizers]
            self._schedules = [copy.deepcopy(state_of(c.scheduler)) for c in trainer.lr_scheduler_configs]

    def undo(self, trainer: Any) -> None:
        """Put back what the hooks have changed."""
        loaded = set(self._loaded)
        with torch.no_grad():
            for name, tensor, saved in self._pairs(trainer):
                if name in loaded and not _equal(tensor, saved):
                    tensor.copy_(saved)
        for optimizer, rates in zip(trainer.optimizers, self._rates, strict=False):
            for group, options in zip(optimizer.param_groups, rates, strict=False):
                group.update(options)
        for config, state in zip(trainer.lr_scheduler_configs, self._schedules, strict=False):
            config.scheduler.load_state_dict(state)

    def _pairs(self, trainer: Any) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        for name, tensor in trainer.lightning_module.state_dict(keep_vars=True).items():
            saved = self._weights.get(name)
            if isinstance(tensor, torch.Tensor) and isinstance(saved, torch.Tensor) and tensor.shape == saved.shape:
                yield name, tensor, saved


def _overridden(trainer: Any) -> bool:
    module = type(trainer.lightning_module)
    if any(getattr(module, hook) is not getattr(LightningModule, hook) for hook in _HOOKS):
        return True
    others = [type(callback) for callback in trainer.callbacks if not type(callback).__module__.startswith("nbkit.")]
    return any(getattr(kind, hook) is not getattr(Callback, hook) for kind in others for hook in _HOOKS)


def _equal(tensor: torch.Tensor, saved: torch.Tensor) -> bool:
    here = tensor.detach().cpu()
    if here.layout is not torch.strided or here.dtype != saved.dtype:
        return False
    return bool(torch.isclose(here, saved, rtol=0.0, atol=0.0, equal_nan=True).all())


def _options(optimizer: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
