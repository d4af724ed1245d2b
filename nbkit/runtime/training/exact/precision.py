"""Weights with more digits than the module is built with, so that loading them loses none.

Lightning converts a module to double precision only after it has loaded the weights of a checkpoint into it.
"""

from __future__ import annotations

from typing import Any

import torch


def widen(trainer: Any) -> None:
    """Convert a module that is trained in double precision before anything is loaded into it or copied from it."""
    if trainer.precision == "64-true":
        trainer.lightning_module.double()


def give_saved_precision(module: Any, state: dict[str, Any]) -> None:
    """Give every tensor of a module the precision of the ``state_dict`` of a checkpoint where that is higher."""
    for name, here in module.state_dict(keep_vars=True).items():
        if isinstance(here, torch.nn.parameter.UninitializedTensorMixin):
            continue
        there, now = _digits(state.get(name)), _digits(here)
        if there is not None and now is not None and there.eps < now.eps:
            here.data = here.data.to(state[name].dtype)


def _digits(value: Any) -> torch.finfo | None:
    return torch.finfo(value.dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else None
